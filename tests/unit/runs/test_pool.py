"""The local pool: a killed process is replaced, a poisoned unit is given up, no process outlives its driver."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import without_progress
from processes import alive, workers
from small_audit import small_config

from ungan_dist import store
from ungan_dist.data.prepared import open_examples, prepare
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.units import Done, Failed, Working, execute, is_done
from ungan_dist.training.evaluate import query
from ungan_dist.training.models import build
from ungan_dist.training.weights import load_weights


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    plan = make_plan(small_config(tmp_path))
    prepare(plan.source, tmp_path)
    return plan


@pytest.mark.process
def test_units_give_the_same_results_in_any_number_of_processes(plan: Plan, tmp_path: Path) -> None:
    log_odds = []
    for num_processes in (1, 2):
        with LocalPool(num_processes) as pool:
            outcomes = list(without_progress(pool.run_units(plan.shadows)))
        assert all(isinstance(outcome, Done) for outcome in outcomes)
        assert all(map(is_done, plan.shadows))
        log_odds.append([store.read_array(tmp_path / unit.log_odds_file) for unit in plan.shadows])
        for unit in plan.shadows:
            (tmp_path / unit.marker).unlink()
    assert (np.array(log_odds[0]) == np.array(log_odds[1])).all()
    assert not workers(os.getpid())


@pytest.mark.process
def test_progress_within_a_unit_arrives_before_its_end(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    plan = make_plan(dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=400)))
    prepare(plan.source, tmp_path)
    with LocalPool(1) as pool:
        *within, ended = pool.run_units(plan.shadows[:1])
    assert isinstance(ended, Done)
    steps = [working.models for working in within if isinstance(working, Working)]
    assert len(steps) == len(within) >= 2
    assert steps == sorted(steps)
    assert re.fullmatch(r"shadow model [01]: epoch \d+ of 400", within[-1].note)


@pytest.mark.parametrize(
    ("engine", "notes", "models"),
    [
        ("serial", [f"shadow model {model}: epoch {epoch} of 3" for model in (0, 1) for epoch in (1, 2, 3)], 6),
        ("graph", [f"shadow model {model}: epoch {epoch} of 3" for model in (0, 1) for epoch in (1, 2, 3)], 6),
        ("branches", [f"shadow models 0–1: epoch {epoch} of 3" for epoch in (1, 2, 3)], 3),
        ("stacked", [f"shadow models 0–1: epoch {epoch} of 3" for epoch in (1, 2, 3)], 3),
    ],
)
def test_a_unit_reports_each_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, notes: list[str], models: int
) -> None:
    monkeypatch.setattr("ungan_dist.runs.units.PROGRESS_INTERVAL_S", 0.0)
    config = small_config(tmp_path)
    plan = make_plan(dataclasses.replace(config, shadows=dataclasses.replace(config.shadows, engine=engine)))
    prepare(plan.source, tmp_path)
    seen: list[tuple[float, str]] = []
    assert isinstance(execute(plan.shadows[0], lambda models, note: seen.append((models, note))), Done)
    assert [note for _, note in seen] == notes
    assert [done for done, _ in seen] == pytest.approx([2 * step / models for step in range(1, models + 1)])


@pytest.mark.process
def test_a_killed_process_is_replaced_and_its_unit_done(plan: Plan) -> None:
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 60
        while not workers(os.getpid()) and time.monotonic() < deadline:
            time.sleep(0.05)
        victim = workers(os.getpid())[0]
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with LocalPool(1) as pool:
        outcomes = list(without_progress(pool.run_units(plan.shadows)))
        killer.join()
        assert killed
        assert killed[0] not in workers(os.getpid())
    assert len(outcomes) == len(plan.shadows)
    assert all(isinstance(outcome, Done) for outcome in outcomes)
    assert all(map(is_done, plan.shadows))


@pytest.mark.process
def test_a_failing_unit_is_named_and_the_others_complete(plan: Plan, tmp_path: Path) -> None:
    # a folder at the path of this unit's file makes a real write fail
    (tmp_path / plan.shadows[0].log_odds_file).mkdir(parents=True)
    with LocalPool(1) as pool:
        outcomes = {outcome.unit.id: outcome for outcome in without_progress(pool.run_units(plan.shadows))}
    first = outcomes[plan.shadows[0].id]
    assert isinstance(first, Failed)
    assert "IsADirectoryError" in first.error
    assert isinstance(outcomes[plan.shadows[1].id], Done)


_DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from small_audit import small_config
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.data.prepared import open_examples, prepare
from ungan_dist.training.weights import load_weights
import dataclasses
if __name__ == "__main__":
    config = small_config(Path({output!r}))
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=100000))
    plan = make_plan(config)
    prepare(plan.source, Path({output!r}))
    with LocalPool(2) as pool:
        list(pool.run_units(plan.shadows))
"""


@pytest.mark.process
def test_no_process_outlives_a_killed_driver(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    tests = Path(__file__).parents[2]
    script.write_text(_DRIVER.format(paths=[str(tests / "helpers"), str(tests.parent)], output=str(tmp_path)))
    driver = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while len(victims := workers(driver.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(victims) == 2
    time.sleep(6)  # during the training, after the imports
    driver.kill()
    driver.wait()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in victims) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in victims)


def test_shadow_models_are_kept_only_on_request_and_equal_the_queried_ones(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    plan = make_plan(
        dataclasses.replace(config, execution=dataclasses.replace(config.execution, keep_shadow_models=True))
    )
    prepare(plan.source, tmp_path)
    assert [unit.id for unit in plan.shadows] == [unit.id for unit in make_plan(config).shadows]
    unit = plan.shadows[0]
    execute(unit)
    execute(make_plan(config).shadows[1])
    assert sorted(path.name for path in tmp_path.glob("shadows/*/*")) == ["0.safetensors", "1.safetensors"]
    data = open_examples(unit.prepared, "cpu")
    model = build(unit.model, channels=1, num_classes=10, seed=0, device=data.device)
    load_weights(model, tmp_path / unit.weights_file(1))
    asked = query(model, data, torch.from_numpy(unit.pool), unit.queries)
    assert (asked == store.read_array(tmp_path / unit.log_odds_file)[1]).all()
