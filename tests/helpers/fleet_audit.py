"""Shadow models of ``digits`` for the tests of the fleet, and their log-odds."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from pathlib import Path

import numpy as np
from in_process import without_progress
from processes import alive
from small_audit import small_config

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.recipes import digits
from ungan_dist.config.training import ModelConfig, ShadowConfig
from ungan_dist.data.prepared import prepare
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.progress import Event
from ungan_dist.runs.units import Done, Failed


def fleet_config(output: Path) -> AuditConfig:
    """Configure 32 shadow models of ``digits`` in units of 4, with a short training each."""
    recipe = digits()
    return dataclasses.replace(
        small_config(output),
        split=recipe.split,
        model=ModelConfig(width=4),
        train=dataclasses.replace(recipe.train, epochs=2),
        shadows=ShadowConfig(num_models=32, unit_size=4, queries=("plain", "shift")),
    )


def make_fleet_plan(output: Path) -> Plan:
    plan = make_plan(fleet_config(output))
    prepare(plan.source, output)
    return plan


def read_log_odds(plan: Plan) -> np.ndarray:
    return np.concatenate([store.read_array(plan.folder.parent / unit.log_odds_file) for unit in plan.shadows])


def compute_local_log_odds(output: Path) -> np.ndarray:
    """Train the same shadow models without Ray."""
    plan = make_fleet_plan(output)
    with LocalPool(2) as pool:
        assert all(isinstance(outcome, Done) for outcome in without_progress(pool.run_units(plan.shadows)))
    return read_log_odds(plan)


class Notes:
    """Collect the notes of progress events."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(self, event: Event) -> None:
        self.notes.append(event.note)

    def __contains__(self, words: str) -> bool:
        return any(words in note for note in self.notes)


def wait_for_death(pid: int) -> bool:
    """Return whether a process ends; a removed node may leave its workers alive for seconds."""
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not alive(pid)


def count_outcomes(outcomes: list[Done | Failed]) -> Counter[str]:
    return Counter(outcome.unit.id for outcome in outcomes)
