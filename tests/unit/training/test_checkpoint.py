"""An attempt that continues from a checkpoint ends with the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from process_groups import in_world
from small_audit import small_config
from torch import Tensor
from world_methods import CONFIGS, Interrupted, resumable

from ungan_dist import store
from ungan_dist.runs.folder import open_run
from ungan_dist.runs.units import execute
from ungan_dist.training import train
from ungan_dist.training.checkpoint import Checkpoint, Epochs
from ungan_dist.training.world import World


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


WITHOUT_STEPS = ("original", "ssd", "influence")
"""They take no optimizer step. A killed one begins again."""


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in WITHOUT_STEPS])
def test_an_interrupted_method_continues_to_the_same_bits(name: str, tmp_path: Path) -> None:
    expected, num_steps = resumable(World(), name, tmp_path / "whole", stop_after=None)
    # the class variant saves its noise before the first step, the others their first epoch after a few
    for stop_after in (num_steps * 2 // 3, num_steps - 1):
        folder = tmp_path / str(stop_after)
        with pytest.raises(Interrupted):
            resumable(World(), name, folder, stop_after=stop_after)
        result, steps_left = resumable(World(), name, folder, stop_after=None)
        assert same(result, expected)
        assert num_steps - stop_after <= steps_left < num_steps


@pytest.mark.timeout(600)
@pytest.mark.process
def test_a_killed_worker_changes_no_bit_and_fewer_workers_only_rounding(tmp_path: Path) -> None:
    name = "ungan"
    whole = in_world(2, "world_methods:resumable_together", name, tmp_path / "whole", None)
    expected, num_steps = whole[0]
    with pytest.raises(RuntimeError, match=r"-9"):
        in_world(2, "world_methods:resumable_together", name, tmp_path / "killed", num_steps - 2)
    shutil.copytree(tmp_path / "killed", tmp_path / "alone")
    resumed, steps_left = in_world(2, "world_methods:resumable_together", name, tmp_path / "killed", None)[0]
    assert same(resumed, expected)
    assert 2 <= steps_left < num_steps
    alone, steps_left = resumable(World(), name, tmp_path / "alone", stop_after=None)
    assert 2 <= steps_left < num_steps
    assert not same(alone, expected)
    for key, value in expected.items():
        torch.testing.assert_close(alone[key], value, atol=1e-9, rtol=0)


def kept(folder: Path, id: str = "an id") -> tuple[Checkpoint, Tensor, list[int]]:
    """Run the remaining epochs of three on a state of one tensor."""
    checkpoint, weights, seen = Checkpoint(folder, "state", id=id, world=World()), torch.zeros(2), []
    for epoch in Epochs(checkpoint, World(), 0, weights=weights).iterate("epochs", 3):
        weights += epoch + 1
        seen.append(epoch)
    return checkpoint, weights, seen


def test_draws_in_layers_are_the_same_after_an_interruption(tmp_path: Path) -> None:
    """Dropout draws from the global generator, which no checkpoint contains."""

    def drawn(folder: Path, stop_after: int, seed: int = 3) -> Tensor:
        weights = torch.zeros(2)
        epochs = Epochs(Checkpoint(folder, "state", id="an id", world=World()), World(), seed, weights=weights)
        for epoch in epochs.iterate("epochs", 3):
            if epoch == stop_after:
                break
            weights += torch.rand(2)
        return weights

    whole = drawn(tmp_path / "whole", 3)
    assert not torch.equal(drawn(tmp_path / "parts", 1), whole)
    assert torch.equal(drawn(tmp_path / "parts", 3), whole)
    assert not torch.equal(drawn(tmp_path / "other seed", 3, seed=4), whole)


def test_a_finished_stage_is_not_repeated(tmp_path: Path) -> None:
    kept(tmp_path)
    _, weights, seen = kept(tmp_path)
    assert (weights.tolist(), seen) == ([6.0, 6.0], [])


@pytest.mark.parametrize("damage", ["cut", "flip", "other id"])
def test_a_damaged_or_foreign_state_is_not_read(tmp_path: Path, damage: str) -> None:
    kept(tmp_path)
    for path in tmp_path.glob("*.pt"):
        content = bytearray(path.read_bytes())
        if damage == "cut":
            path.write_bytes(content[:100])
        elif damage == "flip":
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    _, weights, seen = kept(tmp_path, id="another" if damage == "other id" else "an id")
    assert (weights.tolist(), seen) == ([6.0, 6.0], [0, 1, 2])


def test_a_kill_between_file_and_marker_keeps_the_previous_epoch(tmp_path: Path) -> None:
    checkpoint, weights = Checkpoint(tmp_path, "state", id="an id", world=World()), torch.zeros(2)
    for epoch in Epochs(checkpoint, World(), 0, weights=weights).iterate("epochs", 3):
        weights += epoch + 1
        if epoch == 1:
            break  # epoch 0 is saved; the file of epoch 1 may be incomplete, and its marker is missing
    (tmp_path / "state-1.pt").write_bytes(b"half of it")
    _, weights, seen = kept(tmp_path)
    assert (weights.tolist(), seen) == ([6.0, 6.0], [1, 2])


def test_checkpoints_can_be_removed(tmp_path: Path) -> None:
    checkpoint, *_ = kept(tmp_path)
    assert list(tmp_path.iterdir())
    checkpoint.remove()
    assert not list(tmp_path.iterdir())


def test_measured_time_includes_earlier_attempts_and_excludes_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch takes 1 s, a save 10 s, a load 100 s, and the pause between the attempts 1,000 s."""
    commit, committed, seconds = store.commit, store.committed, 0.0

    def pass_time(duration: float) -> None:
        nonlocal seconds
        seconds += duration

    def slow_commit(*arguments: Any, **named: Any) -> None:
        pass_time(10)
        commit(*arguments, **named)

    def slow_committed(*arguments: Any, **named: Any) -> dict[str, Any] | None:
        pass_time(100)
        return committed(*arguments, **named)

    clock = SimpleNamespace(perf_counter=lambda: seconds, monotonic=lambda: seconds)
    monkeypatch.setattr("ungan_dist.training.checkpoint.time", clock)
    monkeypatch.setattr("ungan_dist.training.checkpoint.store.commit", slow_commit)
    monkeypatch.setattr("ungan_dist.training.checkpoint.store.committed", slow_committed)

    def attempt(num_epochs: int) -> float:
        checkpoint = Checkpoint(tmp_path, "state", id="an id", world=World())
        start = seconds
        for epochs_done, _ in enumerate(Epochs(checkpoint, World(), 0, weights=torch.zeros(1)).iterate("epochs", 3)):
            if epochs_done == num_epochs:
                break
            pass_time(1)
        return seconds - start - checkpoint.excluded_seconds

    assert attempt(1) == 1
    pass_time(1000)
    assert attempt(3) == 3


def test_one_process_saves_long_work_and_continues_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of the pool saves nothing of short work; with every epoch saved, an attempt is continued."""
    take_step, steps = train.take_step, 0
    last: int | None = None

    def counted(*arguments: Any, **named: Any) -> Tensor:
        nonlocal steps
        steps += 1
        if last is not None and steps > last:
            raise OSError("a device was lost")  # an exception of the model would end the unit for good
        return take_step(*arguments, **named)

    monkeypatch.setattr("ungan_dist.training.train.take_step", counted)

    def original(name: str) -> tuple[str, bytes, set[str]]:
        nonlocal steps
        steps = 0
        with open_run(small_config(tmp_path / name)) as plan:
            (unit,) = plan.originals
            outcome = execute(unit)
        weights = plan.folder / unit.weights_file
        kept = {str(path.relative_to(plan.folder)) for path in plan.folder.glob("checkpoints/*/*")}
        return outcome.kind, weights.read_bytes() if weights.exists() else b"", kept

    kind, expected, _ = original("whole")
    assert kind == "done"
    whole, last = steps, steps - 1
    assert original("nothing kept") == ("error", b"", set())
    monkeypatch.setattr("ungan_dist.runs.units.CHECKPOINT_INTERVAL_S", 0.0)
    kind, _, kept = original("kept")
    assert kind == "error"
    assert "checkpoints/0/original.json" in kept
    last = None
    assert original("kept") == ("done", expected, set())
    assert steps == whole // 3
