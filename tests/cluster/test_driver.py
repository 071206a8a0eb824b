"""The driver of a fleet, as its user starts it: terminated, killed, started again; the table is the local one's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from processes import alive

from ungan_dist import store
from ungan_dist.runs.status import read_status

pytestmark = pytest.mark.ray

OPTIONS = [
    *("--model.width", "4", "--train.epochs", "3", "--shadows.num-models", "32", "--shadows.unit-size", "2"),
    *("--attack.num-resamples", "100", "--methods", "original,retrain", "--num-seeds", "1"),
    *("--execution.run-name", "run", "--execution.progress", "json"),
]


def started(output: Path, cluster: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ungan_dist", "run", "digits", *OPTIONS, "--output", str(output)]
    return subprocess.Popen(
        [*command, "--cluster", cluster, "--fleet.num-workers", "2", "--fleet.gpus-per-worker", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def stated(output: Path) -> str:
    status = read_status(output / "run")
    assert status
    return status.state


def committed_units(output: Path) -> dict[str, int]:
    return {marker.name: marker.stat().st_mtime_ns for marker in (output / "shadows").glob("*.json")}


def wait_for_units(output: Path, more_than: int, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while len(committed_units(output)) <= more_than:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_a_driver_terminated_then_killed_is_continued_by_the_same_command(tmp_path: Path, ray_cluster: Any) -> None:
    there = tmp_path / "ray"

    driver = started(there, ray_cluster.address)
    wait_for_units(there, 2, driver)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 3, errors
    assert "run the same command to continue" in errors
    assert stated(there) == "PARTIAL"
    assert store.read_json(there / "run/table.json")["status"] == "PARTIAL"
    first = committed_units(there)
    assert 2 < len(first) < 16

    driver = started(there, ray_cluster.address)
    wait_for_units(there, len(first), driver)
    driver.kill()
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    assert not alive(driver.pid)
    assert stated(there) == "RUNNING"
    second = committed_units(there)
    assert len(second) > len(first)
    listed = subprocess.run(
        [sys.executable, "-m", "ungan_dist", "runs", str(there)], capture_output=True, text=True, check=True
    ).stdout
    assert "INTERRUPTED" in listed

    driver = started(there, ray_cluster.address)
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0, errors
    assert stated(there) == "COMPLETE"
    # what was committed before was not trained again
    last = committed_units(there)
    assert len(last) == 16
    assert {name: last[name] for name in second} == second
    assert {name: second[name] for name in first} == first

    local = started(tmp_path / "local", "local")
    _, errors = local.communicate(timeout=120)
    assert local.returncode == 0, errors
    assert (there / "run/table.json").read_bytes() == (tmp_path / "local/run/table.json").read_bytes()


def test_no_cluster_at_the_address_is_said(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    driver = started(tmp_path, "127.0.0.1:1")
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 2, errors
    assert "no Ray cluster at '127.0.0.1:1'" in errors
    assert not list(tmp_path.iterdir())
