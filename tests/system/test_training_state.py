"""A killed worker's training continues on another machine, from the state in object storage."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
from pathlib import Path

import pytest
from in_process import InProcess
from killed_training import train_until_killed
from object_storage import mirror_of
from pyarrow import fs
from small_audit import small_config

from ungan_dist.errors import Unfinished
from ungan_dist.runs import units
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.storage import training_state
from ungan_dist.runs.storage.fetch import place_of
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.storage.workers import ExecuteThere
from ungan_dist.runs.units import Done, Failed

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("without_figures")]


def store_run(finished_run: Path, folder: Path) -> tuple[Path, Mirror]:
    """Copy a finished run to a driver's machine and to a storage; return the storage's folder and the mirror."""
    storage = folder / "there"
    machine = mirror_of(fs.LocalFileSystem(), str(storage), folder / "driver")
    shutil.copytree(finished_run, machine.folder)
    audit(small_config(machine.folder), run_units=InProcess(0), mirror=machine)
    return storage, machine


@pytest.mark.parametrize("kind", ["originals", "shadows"])
def test_another_machine_continues_a_killed_training(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for module, name in (
        (units, "CHECKPOINT_INTERVAL_S"),
        (units, "PROGRESS_INTERVAL_S"),
        (training_state, "POLL_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.0)
    storage, machine = store_run(finished_run, tmp_path)
    unit = getattr(make_plan(small_config(machine.folder)), kind)[0]
    place, marker = place_of(unit)
    machine.discard(place, marker)
    first, second = (ExecuteThere(url=f"file://{storage}", cache=str(tmp_path / name)) for name in ("one", "two"))

    worker = multiprocessing.get_context("spawn").Process(target=train_until_killed, args=(first, unit, storage))
    worker.start()
    worker.join(100)
    assert worker.exitcode == -signal.SIGKILL
    assert len(list(storage.rglob("*.pt"))) == 2

    notes: list[str] = []
    outcome = second(unit, lambda _, note: notes.append(note))
    assert isinstance(outcome, Done), outcome
    assert next(note.partition(": ")[2] for note in notes) == "epoch 3 of 3"
    results = [path for path in finished_run.rglob("*.npy") if path.is_relative_to(finished_run / place)]
    assert {path: (storage / path.relative_to(finished_run)).read_bytes() for path in results} == {
        path: path.read_bytes() for path in results
    }
    assert not list(storage.rglob("*.pt"))
    assert not list(storage.rglob("*checkpoint*.json"))


def test_a_storage_that_fails_costs_the_state_and_not_the_training(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "CHECKPOINT_INTERVAL_S", 0.0)
    monkeypatch.setattr(training_state, "POLL_SECONDS", 0.0)
    storage, machine = store_run(finished_run, tmp_path)
    unit = make_plan(small_config(machine.folder)).shadows[0]
    machine.discard("", unit.marker)
    (storage / "shadows" / unit.id).write_text("a file where the states' folder would be")
    outcome = ExecuteThere(url=f"file://{storage}", cache=str(tmp_path / "one"))(unit)
    assert isinstance(outcome, Done), outcome
    assert (storage / unit.marker).exists()


def test_a_state_stays_until_the_result_is_in_the_storage(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the push of the result fails, another machine still continues the training."""
    monkeypatch.setattr(units, "CHECKPOINT_INTERVAL_S", 0.0)
    monkeypatch.setattr(training_state, "POLL_SECONDS", 0.01)
    storage, machine = store_run(finished_run, tmp_path)
    unit = make_plan(small_config(machine.folder)).originals[0]
    place, marker = place_of(unit)
    machine.discard(place, marker)
    state = storage / place / training_state.name_files(unit.checkpoints[0])[0]
    state.parent.mkdir(parents=True, exist_ok=True)
    state.write_text("a state of another machine")
    push = Mirror.push

    def refuse(mirror: Mirror, where: str, name: str) -> None:
        if name == marker:
            raise Unfinished("503")
        push(mirror, where, name)

    there = ExecuteThere(url=f"file://{storage}", cache=str(tmp_path / "one"))
    with monkeypatch.context() as patch:
        patch.setattr(Mirror, "push", refuse)
        outcome = there(unit)
    assert isinstance(outcome, Failed)
    assert state.exists()
    assert isinstance(there(unit), Done)
    assert (storage / place / marker).exists()
    assert not state.exists()
