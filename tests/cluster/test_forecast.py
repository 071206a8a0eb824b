"""A forecast on a real cluster."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from small_audit import small_config

from ungan_dist import launch
from ungan_dist.config.execution import FleetConfig

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_plan_is_timed_on_a_worker_of_the_cluster(tmp_path: Path, ray_cluster: Any, num_processes: int) -> None:
    del ray_cluster
    config = small_config(tmp_path / "runs", cluster="auto", fleet=FleetConfig(num_workers=2, gpus_per_worker=0.0))
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_workers=num_processes))
    found = launch.forecast(config, seconds=1.0)
    assert found.num_workers == 2
    assert set(found.unit_seconds) == {"shadow model", "original", "retrain", "ungan"}
    assert all(seconds > 0 for seconds in found.unit_seconds.values())
    assert found.wall_seconds > 0
    assert ("by all data-parallel processes" in found.measured) is (num_processes > 1)
    assert not (tmp_path / "runs").exists()
