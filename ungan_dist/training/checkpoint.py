"""The state of a training at the end of each epoch: what a restart needs to go on as if nothing had happened.

A checkpoint does not know how many processes there were: it continues under any number. Every random draw but those
of explicit generators derives from (seed, epoch, example), so weights, optimizers, positions in streams, generators
and curves are all there is.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ungan_dist import store
from ungan_dist.data.seeds import seed_layers
from ungan_dist.training.world import World


class Checkpoint:
    """Where one training's state is kept: written by rank 0, read by it for all.

    Two files take turns, and the marker names the one that is whole: a kill at any moment leaves the last epoch or the
    one before it.
    """

    def __init__(self, root: Path, name: str, *, id: str, world: World, every_s: float = 0.0) -> None:
        """Names a state.

        Args:
            root: folder that names are relative to.
            name: of the marker, without its ending.
            id: of what is trained: a state of another one is not read.
            world: whose processes train.
            every_s: seconds that must have passed since a state was kept last; 0 keeps every epoch's.
        """
        self._root, self._name, self._id, self._world = root, name, id, world
        self._turn = 0
        self._began = time.perf_counter()
        self._every_s, self._kept_last = every_s, time.monotonic()
        self.off_the_clock = 0.0
        """Seconds to take from a time measured around the training: reading and writing, less earlier attempts' work"""

    @property
    def marker(self) -> str:
        """Relative to the root."""
        return f"{self._name}.json"

    def load(self) -> dict[str, Any] | None:
        """The state kept last; none where there is none that is intact and of this id."""
        self._began = time.perf_counter()
        content: bytes | None = None
        if self._world.rank == 0:
            facts = store.committed(self._root, self.marker, id=self._id)
            if facts is not None:
                content = (self._root / self._file(facts["turn"])).read_bytes()
                self._turn = 1 - facts["turn"]
        content = self._world.tell_all(content)
        saved = None if content is None else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        self.off_the_clock += time.perf_counter() - self._began
        self._began = time.perf_counter()
        if saved is None:
            return None
        self.off_the_clock -= saved["seconds"]
        self._began -= saved["seconds"]
        return saved["state"]

    def save(self, state: dict[str, Any]) -> None:
        """Keeps a state in place of the one before the last."""
        if self._world.rank != 0 or time.monotonic() - self._kept_last < self._every_s:
            return
        start = time.perf_counter()
        content = io.BytesIO()
        torch.save({"state": state, "seconds": start - self._began}, content)
        files = {self._file(self._turn): content.getvalue()}
        store.commit(self._root, self.marker, id=self._id, files=files, facts={"turn": self._turn})
        self._turn, self._kept_last = 1 - self._turn, time.monotonic()
        spent = time.perf_counter() - start
        self.off_the_clock += spent
        self._began += spent

    def epochs(self, stage: str, first: int, last: int) -> Iterable[int]:
        """Which epochs of a stage are done, out of those from ``first`` to ``last`` − 1: all of them here."""
        del stage
        return range(first, last)

    def remove(self) -> None:
        """Forgets what was kept, once the result is committed."""
        if self._world.rank == 0:
            for name in (self.marker, self._file(0), self._file(1)):
                (self._root / name).unlink(missing_ok=True)
            folder = (self._root / self._name).parent
            with contextlib.suppress(OSError):  # others' states lie beside it
                if folder != self._root:
                    folder.rmdir()

    def _file(self, turn: int) -> str:
        return f"{self._name}-{turn}.pt"


class Epochs:
    """The epochs of a training's stages, less those that a checkpoint says are done.

    Draws inside a model's layers follow from ``seed``, stage and epoch, and differ from process to process: each has
    rows of its own. The state is named once: modules, optimizers and what else has ``state_dict``; tensors, generators,
    lists and dicts. All of it is restored in place on construction, and kept after every epoch.
    """

    def __init__(self, checkpoint: Checkpoint | None, world: World, seed: int, **state: Any) -> None:
        self._checkpoint, self._state = checkpoint, state
        self._layer_words = (seed, f"rank {world.rank}") if world.rank else (seed,)
        self._done: dict[str, int] = {}
        saved = None if checkpoint is None else checkpoint.load()
        if saved is not None:
            self._done = saved["done"]
            for name, part in state.items():
                _restore(part, saved["parts"][name])

    def of(self, stage: str, epochs: int) -> Iterator[int]:
        """The epochs of one stage that are still to be done, from 0 counted."""
        first = self._done.get(stage, 0)
        kept = self._checkpoint
        for epoch in range(first, epochs) if kept is None else kept.epochs(stage, first, epochs):
            # dropout inside a model draws from the global generator, which no checkpoint holds
            with seed_layers(stage, *self._layer_words, epoch):
                yield epoch
            self._done[stage] = epoch + 1
            if self._checkpoint is not None:
                parts = {name: _snapshot(part) for name, part in self._state.items()}
                self._checkpoint.save({"done": self._done, "parts": parts})


def _snapshot(part: Any) -> Any:
    if hasattr(part, "state_dict"):
        return part.state_dict()
    if isinstance(part, torch.Generator):
        return part.get_state()
    return part.detach() if isinstance(part, Tensor) else part


def _restore(part: Any, saved: Any) -> None:
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(saved)
    elif isinstance(part, torch.Generator):
        part.set_state(saved)
    elif isinstance(part, Tensor):
        with torch.no_grad():
            part.copy_(saved)
    elif isinstance(part, list):
        part[:] = saved
    else:
        part.update(saved)
