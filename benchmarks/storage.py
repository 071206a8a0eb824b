"""Measure the storage code with as many units as a large fleet has: real plans, markers and files, no training.

Log-odds are tiny here, so that the cost of a unit shows and not that of its bytes. The suite ``counts`` counts.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import numpy as np
from harness import ROOT, count_row, value_row
from pyarrow import fs
from simulated_fleets import FLEET_UNIT

from ungan_dist import store
from ungan_dist.config.recipes import digits
from ungan_dist.data.prepared import prepare
from ungan_dist.runs.failures import sort_out_absent
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.scoring import read_shadows
from ungan_dist.runs.storage import workers
from ungan_dist.runs.storage.fetch import data_of, fetch
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.storage.remote import push_results
from ungan_dist.runs.storage.workers import ArrivedFrom, ExecuteThere
from ungan_dist.runs.units import Done, missing, root_of

sys.path.append(str(ROOT / "tests/helpers"))

from object_storage import CountedRequests

T = TypeVar("T")
POOL = 200
NUM_COUNTED = 50
"""Units of the counts."""


def make_fleet(output: Path, num_units: int) -> Plan:
    """Plan a run with so many units of shadow models."""
    return make_plan(
        digits(
            output=str(output),
            shadows={"num_models": 2 * num_units, "queries": ("plain",)},
            split={"train": POOL, "shadow_pool": POOL, "unseen": 20},
            num_seeds=1,
            methods=("original", "retrain"),
        ),
        device="cpu",
    )


def write_units(plan: Plan) -> None:
    """Commit every unit of shadow models, as a worker does, but leave it to the system when the disk is written."""
    with mock.patch.object(os, "fsync"):
        for unit in plan.shadows:
            write_unit(unit)


def write_unit(unit: Any, on_progress: object = None) -> Done:
    """Commit a unit of shadow models without training."""
    facts = {"shadows": list(unit.shadows), "data": unit.prepared.data_hash, "versions": {}}
    files = {unit.log_odds_file: store.array_bytes(np.zeros((2, 2 * POOL, 1), np.float32))}
    store.commit(root_of(unit), unit.marker, id=unit.id, files=files, facts=facts)
    return Done(unit=unit)


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Time the steps of a driver with 20,000 units."""
    return _measure_steps(100 if quick else 20_000)


def measure_large(quick: bool) -> Iterator[dict[str, object]]:
    """Time the steps of a driver with 100,000 units, more than the largest fleet that is simulated."""
    return _measure_steps(200 if quick else 100_000)


def _measure_steps(num_units: int) -> Iterator[dict[str, object]]:
    make_fleet(Path("/no/such/folder"), 2)  # imports
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder).resolve()
        steps: dict[str, Callable[[Plan], Any]] = {
            "commit all": write_units,
            "list the missing": lambda plan: missing(plan.shadows),
            "list the failed": lambda plan: sort_out_absent(plan.folder, plan.shadows),
            "plan again, all done": lambda plan: make_fleet(output, num_units),
            "read all log-odds": lambda plan: read_shadows(plan, plan.shadows),
        }
        plan, seconds = _time(lambda: make_fleet(output, num_units))
        yield _row("plan, nothing done", num_units, seconds)
        for name, step in steps.items():
            _, seconds = _time(lambda step=step: step(plan))
            yield _row(name, num_units, seconds)


def count(output: Path) -> Iterator[dict[str, object]]:
    """Count the files that are opened and the requests to object storage, for each unit."""
    plan = make_fleet(output / "here", NUM_COUNTED)
    write_units(plan)
    opened: list[str] = []
    is_open = [True]
    sys.addaudithook(lambda event, facts: opened.append(str(facts[0])) if event == "open" and is_open[0] else None)

    def count_opened(step: Callable[[], object]) -> float:
        opened.clear()
        step()
        return sum("/shadows/" in name for name in opened) / NUM_COUNTED

    yield count_row("files opened: list the missing", files_per_unit=count_opened(lambda: missing(plan.shadows)))
    again = count_opened(lambda: make_fleet(output / "here", NUM_COUNTED))
    yield count_row("files opened: plan again, all done", files_per_unit=again)
    is_open[0] = False
    yield from _count_requests(plan, output)


def _count_requests(plan: Plan, output: Path) -> Iterator[dict[str, object]]:
    """Count the requests to object storage: for each unit, and to continue a run whose units are all finished."""
    requests: list[str] = []
    storage = fs.PyFileSystem(CountedRequests(fs.LocalFileSystem(), requests))

    def mirror_of(machine: str) -> Mirror:
        return Mirror(url="file:///there", filesystem=storage, root=str(output / "there"), folder=output / machine)

    def count_requests(step: Callable[[], object]) -> int:
        requests.clear()
        step()
        return len(requests)

    prepare(plan.source, output / "here")
    here, units = mirror_of("here"), plan.shadows
    here.known.update({unit.marker: None for unit in units})  # as after a listing
    one_by_one = mirror_of("here")
    one_by_one.known.update(here.known)
    num = count_requests(lambda: [one_by_one.push("", unit.marker) for unit in units])
    yield count_row("requests: push a result", requests_per_unit=num / NUM_COUNTED)
    run = push_results(here, lambda units: (Done(unit=unit) for unit in units))
    yield count_row("requests: push 50 results and summarise them", requests=count_requests(lambda: list(run(units))))
    arrived = ArrivedFrom(mirror=mirror_of("driver"))
    num = count_requests(lambda: [arrived(unit) for unit in units])
    yield count_row("requests: see that a result has arrived", requests_per_unit=num / NUM_COUNTED)
    yield count_row(FLEET_UNIT, requests_per_unit=_count_fleet(mirror_of, plan, count_requests) / NUM_COUNTED)
    for machine, subject in {"here": "the same machine", "another": "another machine"}.items():
        moved = make_fleet(output / machine, NUM_COUNTED)
        num = count_requests(lambda machine=machine, moved=moved: fetch(mirror_of(machine), moved))
        yield count_row(f"requests: continue a run of {NUM_COUNTED} finished units on {subject}", requests=num)
        assert not missing(moved.shadows)


def _count_fleet(
    mirror_of: Callable[[str], Mirror], plan: Plan, count_requests: Callable[[Callable[[], object]], int]
) -> int:
    """Count the requests of the units of a fleet, whose workers share no folder with the driver."""
    here, worker, driver = mirror_of("here"), mirror_of("worker"), mirror_of("remote driver")
    here.push("", data_of(plan.originals[0].prepared)[0])
    for unit in plan.shadows:
        here.discard("", unit.marker)
    there, arrived = ExecuteThere(url="", cache=None, execute=write_unit), ArrivedFrom(mirror=driver)

    def run(units: Sequence[Any]) -> Iterator[Any]:
        for unit in units:
            outcome = there(unit)
            assert outcome.kind == "done", outcome
            assert arrived(unit)
            yield outcome

    with mock.patch.object(workers, "_connect", return_value=worker):
        worker.pull("", data_of(plan.originals[0].prepared)[0])  # once a worker
        return count_requests(lambda: list(push_results(driver, run)(plan.shadows)))


def _time(step: Callable[[], T]) -> tuple[T, float]:
    begun = time.process_time()
    return step(), time.process_time() - begun


def _row(name: str, num_units: int, cpu_s: float) -> dict[str, object]:
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return value_row(
        f"{name}: {num_units:,} units",
        cpu_s=round(cpu_s, 2),
        us_per_unit=round(1e6 * cpu_s / num_units),
        peak_of_the_process_MB=round(peak_mb),
    )
