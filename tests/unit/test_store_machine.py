"""After any order of commits, damage and sweeps, the store returns the last committed result."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from ungan_dist import store

NAMES = st.sampled_from(["a", "b"])
IDS = st.sampled_from(["first", "second"])


class StoreMachine(RuleBasedStateMachine):
    """Model of the folder: marker → (id, facts, files) as last committed, unless damaged since."""

    damaged = Bundle("damaged")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.model: dict[str, tuple[str, dict[str, int], dict[str, bytes]]] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @rule(name=NAMES, id=IDS, content=st.binary(max_size=20), fact=st.integers(0, 9))
    def commit(self, name: str, id: str, content: bytes, fact: int) -> None:
        files = {f"{name}/weights.bin": content, f"{name}/scores.bin": content[::-1]}
        store.commit(self.root, f"{name}.json", id=id, files=files, facts={"fact": fact})
        self.model[name] = (id, {"fact": fact}, files)

    @precondition(lambda self: self.model)
    @rule(target=damaged, data=st.data())
    def damage(self, data: st.DataObject) -> str:
        name = data.draw(st.sampled_from(sorted(self.model)))
        _, _, files = self.model.pop(name)
        path = self.root / data.draw(st.sampled_from([*files, f"{name}.json"]))
        how = data.draw(st.sampled_from(["remove", "append", "empty"]))
        if how == "remove":
            path.unlink()
        elif how == "append":
            path.write_bytes(path.read_bytes() + b"}")
        else:
            path.write_bytes(b"" if path.read_bytes() else b"x")
        return name

    @rule(name=consumes(damaged), id=IDS)
    def damage_is_never_called_committed(self, name: str, id: str) -> None:
        if name not in self.model:
            assert store.committed(self.root, f"{name}.json", id=id) is None
            assert store.condition(self.root, f"{name}.json", id=id) != "intact"

    @rule(name=NAMES)
    def a_dead_writer_leaves_a_file_aside(self, name: str) -> None:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        # not a valid pid
        (folder / f".weights.bin.{2**22 + 1}.abcd.tmp").write_bytes(b"half")

    @rule()
    def sweep(self) -> None:
        mine = self.root / f".mine.{os.getpid()}.abcd.tmp"
        mine.write_bytes(b"being written")
        store.remove_temporary_files(self.root)
        assert [path.name for path in self.root.rglob(".*.tmp")] == [mine.name]
        mine.unlink()

    @invariant()
    def what_was_committed_last_is_there(self) -> None:
        for name, (id, facts, files) in self.model.items():
            assert store.committed(self.root, f"{name}.json", id=id) == facts
            assert store.committed(self.root, f"{name}.json", id="another") is None
            assert store.condition(self.root, f"{name}.json", id="another") == "absent"
            assert all((self.root / file).read_bytes() == content for file, content in files.items())


StoreMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestStore = StoreMachine.TestCase
