"""An audit on a Ray cluster with two types of GPU: one verdict a type, and workers of a third type refuse."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import labelled_gpus
import pytest
from labelled_gpus import ExecuteOn, describe
from small_audit import small_config

import ungan_dist
from ungan_dist.cluster import fleet
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import FleetConfig
from ungan_dist.errors import Unfinished
from ungan_dist.runs.kernel_choice import choice
from ungan_dist.runs.record import read_run

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def two_types(ray_cluster: Any) -> Iterator[None]:
    """Add a node of each of two types."""
    nodes = [
        ray_cluster.add_node(num_cpus=1, num_gpus=1, resources={f"{fleet.ACCELERATOR}{kind}": 1})
        for kind in ("A100", "H200")
    ]
    yield
    for node in nodes:
        ray_cluster.remove_node(node)


def run_audit(
    output: Path, monkeypatch: pytest.MonkeyPatch, address: str, *, fast_on: tuple[str, ...], workers: str
) -> ungan_dist.Report:
    """Run an audit on the cluster with workers of one type."""

    def judge_here(task: Any) -> Any:  # Ray sends a nested function by value
        return labelled_gpus.judge(task, fast_on, output)

    monkeypatch.setattr(choice, "judge_here", judge_here)
    monkeypatch.setattr(fleet, "Fleet", functools.partial(fleet.Fleet, execute=ExecuteOn(kind=workers)))
    monkeypatch.setattr("ungan_dist.runs.forecast.engines.list_engines", lambda plan: ())
    return ungan_dist.audit(audit_config(output, address))


def audit_config(output: Path, address: str) -> AuditConfig:
    config = small_config(output, methods=("original",), cluster=address)
    return dataclasses.replace(config, fleet=FleetConfig(num_workers=1, max_application_failures=1))


@pytest.mark.usefixtures("without_figures")
def test_types_that_disagree_get_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: Any
) -> None:
    report = run_audit(tmp_path, monkeypatch, ray_cluster.address, fast_on=("H200",), workers="H200")
    assert {kind: (tmp_path / kind).read_text() for kind in ("A100", "H200")} == {"A100": "1\n", "H200": "1\n"}
    assert report.status == "COMPLETE"
    expected = f"reference: the GPUs disagree; {describe('A100')}: not above 1.1"
    assert report.resolved["kernels"] == dict.fromkeys(("gather_augmented", "log_odds"), expected)


def test_types_that_agree_get_the_fused_kernel_and_another_type_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: Any
) -> None:
    with pytest.raises(Unfinished) as stopped:
        run_audit(tmp_path, monkeypatch, ray_cluster.address, fast_on=("A100", "H200"), workers="B200")
    kernels = read_run(tmp_path / "run").resolved["kernels"]
    judged = [describe("A100"), describe("H200")]
    assert kernels["devices"] == judged
    assert {verdict["choice"] for verdict in kernels["choices"].values()} == {"fused"}
    words = f"this worker has {describe('B200')}, and the kernels of the run were checked on {', '.join(judged)}"
    assert words in str(stopped.value)
