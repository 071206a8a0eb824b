"""A fleet whose workers share only storage with the driver."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import fleet_faults as faults
import pytest
from processes import alive
from small_audit import small_config

from ungan_dist import launch, store
from ungan_dist.cluster.fleet import Fleet
from ungan_dist.config.execution import FleetConfig
from ungan_dist.runs import pipeline
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.storage.mirror import connect, working_folder
from ungan_dist.runs.storage.workers import ArrivedFrom, ExecuteThere

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("without_figures")]

TWO = FleetConfig(num_workers=2, gpus_per_worker=0.0)


@pytest.fixture
def table(finished_run: Path) -> bytes:
    """The table of the same audit without Ray and storage."""
    return (finished_run / "run/table.json").read_bytes()


def test_workers_and_driver_share_storage_only(
    tmp_path: Path, ray_cluster: Any, ray_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, table: bytes
) -> None:
    url = f"file://{tmp_path}/storage"
    theirs = working_folder(url)
    assert str(theirs).startswith(ray_environment["HOME"])
    monkeypatch.setenv("HOME", str(tmp_path / "driver"))
    config = replace(small_config(tmp_path), output=url, cluster=ray_cluster.address, fleet=TWO)
    assert launch.audit(config).status == "COMPLETE"
    ours = working_folder(url)
    assert ours != theirs
    assert (tmp_path / "storage/run/table.json").read_bytes() == table
    # each worker computed in its own folder from downloaded files, and wrote nothing else
    assert (theirs / "run/models/0/original.safetensors").is_file()
    assert list(theirs.glob("data/*/images.npy"))
    assert not (theirs / "run/config.json").exists()
    markers = {path.name: path.read_bytes() for path in (tmp_path / "storage/shadows").glob("*.json")}
    assert len(markers) == 2
    assert {path.name: path.read_bytes() for path in (ours / "shadows").glob("*.json")} == markers


def test_a_worker_killed_before_its_upload_does_not_train_twice(tmp_path: Path, ray_cluster: Any, table: bytes) -> None:
    url = f"file://{tmp_path}/storage"
    mirror = connect(url, cache=str(tmp_path / "driver"))
    config = small_config(mirror.folder)
    victim = make_plan(config, device="cpu").shadows[0]
    execute = faults.KillSelf(victims={victim.id: "after commit"}, notes=tmp_path)
    there = ExecuteThere(url=url, cache=str(tmp_path / "workers"), execute=execute)
    with Fleet(TWO, execute=there, is_done=ArrivedFrom(mirror=mirror)) as fleet:
        report = pipeline.audit(config, run_units=fleet.run_units, device="cpu", mirror=mirror)
    killed = int((tmp_path / f"{victim.id}.killed").read_text())
    assert killed != os.getpid()
    assert not alive(killed)
    assert report.status == "COMPLETE"
    assert (tmp_path / "storage/run/table.json").read_bytes() == table
    marker = working_folder(url, str(tmp_path / "workers")) / victim.marker
    # trained once: the marker is older than the note of the dying process
    assert marker.stat().st_mtime_ns < (tmp_path / f"{victim.id}.killed").stat().st_mtime_ns
    assert store.committed(mirror.folder, victim.marker, id=victim.id) is not None
