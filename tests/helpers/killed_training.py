"""A worker that is killed in the middle of a training whose state has arrived in object storage."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ungan_dist.runs import units
from ungan_dist.runs.storage import training_state
from ungan_dist.runs.storage.workers import ExecuteThere
from ungan_dist.runs.units import Unit


def save_at_once() -> None:
    """Save and push the state of a training after every epoch, in this process."""
    units.CHECKPOINT_INTERVAL_S = units.PROGRESS_INTERVAL_S = 0.0
    training_state.POLL_SECONDS = 0.01
    training_state.UPLOAD_SHARE = 1.0


def train_until_killed(there: ExecuteThere, unit: Unit, storage: Path) -> None:
    """Train a unit, and kill this process once the storage has the state after two epochs."""
    save_at_once()
    begun = time.time_ns()

    def kill(_: float, note: str) -> None:
        if "epoch 2 of" not in note:
            return
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            # the second state is in the second file
            if any(path.stat().st_mtime_ns > begun for path in storage.rglob("*checkpoint*-1.pt")) or any(
                storage.rglob("checkpoints/*/*-1.pt")
            ):
                time.sleep(2.0)  # its marker comes after it
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.01)

    there(unit, kill)
