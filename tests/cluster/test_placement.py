"""Units of shadow models share the GPUs of a real Ray cluster, and a target has its GPU for itself."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from placed_units import RecordPlace, is_target
from sleeping_units import SleepingUnit, always_done

from ungan_dist.cluster.fleet import Fleet
from ungan_dist.cluster.resources import Allocation, share_gpus, take_whole_gpus
from ungan_dist.config.execution import FleetConfig
from ungan_dist.runs.units import Done

SMALL = {"cpus_per_worker": 0.25}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("config", "measured", "num_shadows"),
    [(FleetConfig(**SMALL), 3, 5), (FleetConfig(**SMALL, gpus_per_worker=0.5), 1, 1)],
    ids=["by default", "as asked"],
)
def test_shadow_models_share_gpus_and_targets_are_alone(
    tmp_path: Path, config: FleetConfig, measured: int, num_shadows: int
) -> None:
    """Five units of shadow models that run at once cannot have four GPUs for themselves."""
    shadows = [SleepingUnit(id=f"shadow{number}", seconds=0.1) for number in range(num_shadows)]
    target = SleepingUnit(id="target", seconds=0.3)
    execute = RecordPlace(notes=tmp_path, num_shadows=num_shadows)
    with Fleet(config, execute=execute, is_done=always_done, is_alone=is_target) as fleet:
        fleet.share_gpus(measured)
        outcomes = list(fleet.run_units([shadows[0], target, *shadows[1:]]))
    assert [type(outcome) for outcome in outcomes] == [Done] * (num_shadows + 1)
    notes = execute.read()
    shares = {name: note["share"] for name, note in notes.items()}
    assert shares == {"target": 1.0} | {unit.id: 0.5 for unit in shadows}
    at_once = [
        {one, other}
        for one, other in combinations(notes, 2)
        if notes[one]["gpu"] == notes[other]["gpu"]
        and notes[one]["begun"] < notes[other]["ended"]
        and notes[other]["begun"] < notes[one]["ended"]
    ]
    assert bool(at_once) == (num_shadows > 4)
    assert all("target" not in pair for pair in at_once)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_a_chosen_number_of_workers_is_kept() -> None:
    with Fleet(FleetConfig(**SMALL, num_workers=4)) as fleet:
        fleet.share_gpus(3)
        assert fleet.allocate(100) == fleet.allocation


def node(cpus: float, gpus: float) -> dict[str, object]:
    return {"Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}}


@pytest.mark.parametrize(
    ("nodes", "units_per_gpu", "num_units", "units"),
    [
        ([node(16, 4)], 4, 64, 4),
        ([node(16, 4)], 1, 64, 1),
        ([node(16, 4)], 4, 4, 1),  # a GPU for each unit; Ray would put all of them on one
        ([node(16, 4)], 4, 6, 2),
        ([node(9, 4)], 4, 64, 2),
        ([node(16, 2), node(5, 2)], 4, 64, 2),  # each node has CPUs for its own GPUs
        ([node(4, 4)], 4, 64, 1),
    ],
)
def test_gpus_are_shared_only_if_all_are_filled(
    nodes: list[dict[str, object]], units_per_gpu: int, num_units: int, units: int
) -> None:
    whole = Allocation(num_workers=4, gpus_per_worker=1.0, cpus_per_worker=1.0)
    shared = share_gpus(whole, nodes, units_per_gpu=units_per_gpu, num_units=num_units)
    assert (shared.num_workers, shared.gpus_per_worker) == (4 * units, 1 / units)
    assert take_whole_gpus(shared) == whole


@pytest.mark.parametrize("gpus", [0.0, 0.25, 2.0])
def test_shares_that_were_asked_for_stay(gpus: float) -> None:
    asked = Allocation(num_workers=3, gpus_per_worker=gpus, cpus_per_worker=1.0)
    assert share_gpus(asked, [node(16, 4)], units_per_gpu=4, num_units=64) == asked
