"""Units that record the GPU and the time of their execution, without importing torch."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from sleeping_units import SleepingUnit, Slept

LIMIT_S = 60


@dataclass(frozen=True, kw_only=True)
class RecordPlace:
    """Write where and when a unit runs; units of shadow models wait for each other, so that all run at once."""

    notes: Path
    num_shadows: int

    def __call__(self, unit: SleepingUnit, on_progress: Any = None) -> Slept:
        begun = time.time()
        (self.notes / f"{unit.id}.begun").touch()
        while not is_target(unit) and len(list(self.notes.glob("shadow*.begun"))) < self.num_shadows:
            if time.time() - begun > LIMIT_S:
                return Slept(kind="error", error="the other units have not begun")
            time.sleep(0.05)
        time.sleep(unit.seconds)
        context = ray.get_runtime_context()
        (gpu,) = context.get_accelerator_ids()["GPU"]
        share = context.get_assigned_resources()["GPU"]
        note = {"gpu": [context.get_node_id(), gpu], "share": share, "begun": begun, "ended": time.time()}
        (self.notes / f"{unit.id}.json").write_text(json.dumps(note))
        return Slept()

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the notes of all units."""
        return {path.stem: json.loads(path.read_text()) for path in self.notes.glob("*.json")}


def is_target(unit: SleepingUnit) -> bool:
    """Whether a unit stands for a target."""
    return unit.id.startswith("target")
