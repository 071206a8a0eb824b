"""A forecast against the run that it speaks of, both in processes of their own."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_audit import small_config

from ungan_dist import launch
from ungan_dist.errors import ConfigError
from ungan_dist.runs.forecast.forecast import makespan
from ungan_dist.runs.forecast.probe import NOTHING, now

pytestmark = pytest.mark.alone

CUT_DOWN = [
    *("digits", "--train.epochs", "20", "--shadows.num-models", "10", "--shadows.unit-size", "2", "--num-seeds", "1"),
    *("--methods", "original,retrain,scrub,ungan"),
]
"""The real digits, models and steps; fewer of them."""
STEADY = 0.8
"""Of a core: what the probes must have had, on average, for a wall time to be judged."""


def command(*arguments: str | Path, temporary: Path) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Runs the command; its wall time, and the CPU time of all its processes."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "ungan_dist", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "TMPDIR": str(temporary),
            "TORCHINDUCTOR_CACHE_DIR": f"{temporary}-torch",  # torch makes it, by default in TMPDIR, and leaves it
            "OMP_NUM_THREADS": "1",
        },
    )
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return done, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def planned(recipe: list[str], output: Path, temporary: Path) -> dict[str, Any]:
    done, _, _ = command("plan", *recipe, "--json", "--output", output, temporary=temporary)
    assert not list(temporary.iterdir()), "the probe's scratch folder was left behind"
    return json.loads(done.stdout)


def agrees(recipe: list[str], tmp_path: Path) -> tuple[subprocess.CompletedProcess[str], str]:
    """Runs a recipe; its forecast must be within 30 % of the wall time and of the CPU time.

    Others may be at work on the machine, and come or go between a forecast and its run. So a miss is one that repeats:
    where a forecast misses, another forecast and another run follow, in a folder of their own, and have to agree. The
    wall time of a machine that others share is theirs as much as ours (seen, at a load of 11 on two cores: planned 140
    and 128 s, took 59 s, with CPU times of 30, 28 and 28 s): it is judged where the probe had nearly a core to itself.

    Returns:
        The first run, in ``tmp_path / "runs"``, and why the last wall time could not be judged, with what was missed
        before; empty where it was.
    """
    first, misses, not_judged = attempt(recipe, tmp_path, "runs")
    if misses:
        _, again, not_judged = attempt(recipe, tmp_path, "again")
        assert not again, f"{misses}, and once more: {again}"
        not_judged = not_judged and f"{not_judged}, after {', '.join(misses)}"
    return first, not_judged


def attempt(recipe: list[str], tmp_path: Path, output: str) -> tuple[subprocess.CompletedProcess[str], list[str], str]:
    """One forecast and its run: the run, what of its times was missed, and why the wall time could not be judged."""
    temporary = tmp_path / f"temporary-{output}"
    temporary.mkdir()
    forecast = planned(recipe, tmp_path / output, temporary)
    assert not (tmp_path / output).exists(), "a plan writes nothing"
    done, wall, cpu = command("run", *recipe, "--output", tmp_path / output, temporary=temporary)
    written = sum(file.stat().st_size for file in (tmp_path / output).rglob("*.[ns][pa][yf]*"))
    assert forecast["disk_bytes"] == pytest.approx(written, rel=0.1)
    real = {"wall_seconds": wall, "cpu_seconds": cpu}
    told = {kind: f"{kind} {seconds:.1f}, planned {forecast[kind]:.1f}" for kind, seconds in real.items()}
    print("; ".join(told.values()))
    share, not_judged = forecast["cpu_share"], ""
    if share < STEADY:
        not_judged = f"others left a probe {share:.0%} of a core; {told['wall_seconds']}"
        del real["wall_seconds"]
    misses = [told[kind] for kind, seconds in real.items() if forecast[kind] != pytest.approx(seconds, rel=0.3)]
    return done, misses, not_judged


@pytest.mark.timeout(800)
def test_a_run_takes_what_its_plan_says(tmp_path: Path) -> None:
    done, not_judged = agrees(CUT_DOWN, tmp_path)
    remarks = [json.loads(line) for line in done.stderr.splitlines() if '"stage": "plan"' in line]
    assert [set(remark) for remark in remarks] == [{"stage", "note"}] * 2
    assert "14 models (10 shadow) in 9 units, 0 done" in remarks[0]["note"]
    assert "δ ≥" in remarks[1]["note"]
    assert "four runs of five" not in done.stdout
    again, _, _ = command("plan", *CUT_DOWN, "--no-probe", "--output", tmp_path / "runs", temporary=tmp_path)
    assert "0 to train or unlearn, 14 done" in again.stdout
    assert "shadow models × 2" in again.stdout
    if not_judged:
        pytest.skip(f"the wall time was not judged: {not_judged}")


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("recipe", ["digits", "cifar10-small"])
def test_a_whole_recipe_takes_what_its_plan_says(recipe: str, tmp_path: Path) -> None:
    options = [recipe]
    if recipe == "cifar10-small":
        data = Path(os.environ.get("CIFAR10_PARQUET", Path(__file__).parents[3] / "shared/data/cifar10-jpeg"))
        if not data.exists():
            pytest.skip(f"no CIFAR-10 as Parquet at {data}: set CIFAR10_PARQUET")
        options += ["--source.path", str(data)]
    _, not_judged = agrees(options, tmp_path)
    if not_judged:
        pytest.skip(f"the wall time was not judged: {not_judged}")


def test_a_probe_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    config = small_config(tmp_path, methods=("original", "cf_k"))
    config = dataclasses.replace(config, cf_k=dataclasses.replace(config.cf_k, k=9))
    with pytest.raises(ConfigError, match=r"probe failed[\s\S]*cf_k.k 9 exceeds the 4 stages"):
        launch.forecast(config, seconds=1.0, begun=now())


def test_an_output_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="s3://bucket/runs is not: give --output a folder"):
        launch.forecast(
            dataclasses.replace(small_config(tmp_path), output="s3://bucket/runs"), seconds=1.0, begun=now()
        )


def test_the_makespan_is_what_a_pool_would_take() -> None:
    generator = np.random.default_rng(0)
    for num_workers, num_units in itertools.product((1, 2, 5), (0, 1, 7)):
        seconds = generator.uniform(1, 3, num_units).tolist()
        ends = [0.0] * num_workers
        for one in seconds:
            ends[ends.index(min(ends))] += one
        assert makespan(seconds, num_workers) == pytest.approx(max(ends))


def test_processes_that_share_batches_are_not_forecast(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    train = dataclasses.replace(config.train, num_workers=2)
    config = dataclasses.replace(config, train=train, cluster="auto")
    with pytest.raises(ConfigError, match=r"train\.num_workers 2 .*--no-probe"):
        launch.forecast(config, seconds=1, begun=NOTHING)
