"""Doctor and plan on a real cluster, one of whose nodes is not like the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from small import small_config
from wrong_clock import wrong_clock

from ungan_dist import launch
from ungan_dist.cluster.doctor import check_cluster
from ungan_dist.config import FleetConfig
from ungan_dist.doctor.finding import Finding
from ungan_dist.probe import now

pytestmark = [pytest.mark.timeout(240)]


def by_name(findings: list[Finding]) -> dict[str, list[Finding]]:
    """By what comes after the node's name."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.name.split()[-1], []).append(finding)
    return found


def test_a_node_of_another_version_and_time_is_told_from_its_sound_neighbours(
    tmp_path: Path, ray_cluster: Any, ray_environment: dict[str, str]
) -> None:
    other = tmp_path / "other"
    (other / "torch-0.0.1.dist-info").mkdir(parents=True)
    (other / "torch-0.0.1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 0.0.1\n")
    environment = {
        "PYTHONPATH": f"{other}:{ray_environment['PYTHONPATH']}",
        "LD_PRELOAD": str(wrong_clock(tmp_path)),
        # Ray clears the line above for workers otherwise
        "RAY_LD_PRELOAD_ON_WORKERS": "1",
    }
    node = ray_cluster.add_node(num_cpus=1, env_vars=environment)
    try:
        findings = by_name(list(check_cluster("auto", tmp_path / "runs")))
    finally:
        ray_cluster.remove_node(node)
    (ray,) = findings["ray"]
    assert ray.level == "ok"
    assert "4 nodes" in ray.message
    assert sorted(one.level for one in findings["versions"]) == ["failure", "ok", "ok", "ok"]
    assert sorted(one.level for one in findings["clock"]) == ["failure", "ok", "ok", "ok"]
    assert [one.level for one in findings["storage"]] == ["ok"] * 4
    assert any("torch 0.0.1 (here" in one.message for one in findings["versions"])
    assert any("by 3600 s" in one.message or "by 3599 s" in one.message for one in findings["clock"])
    assert not list(tmp_path.glob("runs*"))


def test_a_folder_that_the_nodes_do_not_see(tmp_path: Path, ray_cluster: Any) -> None:
    del ray_cluster
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        findings = by_name(list(check_cluster("auto", Path(f"/proc/self/fd/{here}"))))
    finally:
        os.close(here)
    assert {one.level for one in findings["storage"]} == {"failure"}
    assert all("is not shared" in one.message and one.remedy for one in findings["storage"])


def test_a_plan_is_timed_on_the_clusters_own_workers(tmp_path: Path, ray_cluster: Any) -> None:
    del ray_cluster
    config = small_config(tmp_path / "runs", cluster="auto", fleet=FleetConfig(num_workers=2, gpus_per_worker=0.0))
    found = launch.forecast(config, seconds=1.0, begun=now())
    assert found.num_workers == 2
    assert set(found.unit_seconds) == {"shadow model", "original", "retrain", "ungan"}
    assert all(seconds > 0 for seconds in found.unit_seconds.values())
    assert found.wall_seconds > 0
    assert not list((tmp_path / "runs").iterdir())
