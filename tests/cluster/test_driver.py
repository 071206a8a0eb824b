"""A driver that is terminated, killed and started again gives the table of a local run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from in_process import run_command
from processes import alive

from ungan_dist import store
from ungan_dist.runs.status import read_status

pytestmark = pytest.mark.ray

OPTIONS = [
    *("--model.width", "4", "--train.epochs", "3", "--shadows.num-models", "32", "--shadows.unit-size", "2"),
    *("--attack.num-resamples", "100", "--methods", "original,retrain", "--num-seeds", "1"),
    *("--execution.run-name", "run", "--execution.progress", "json"),
]


def start_driver(output: Path, cluster: str) -> subprocess.Popen[str]:
    fleet = ["--cluster", cluster, "--fleet.num-workers", "2", "--fleet.gpus-per-worker", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "ungan_dist", "run", "digits", *OPTIONS, "--output", str(output), *fleet],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def read_state(output: Path) -> str:
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
def test_a_terminated_and_a_killed_driver_are_continued_by_the_same_command(
    tmp_path: Path, ray_cluster: Any, without_figures: None
) -> None:
    there = tmp_path / "ray"

    driver = start_driver(there, ray_cluster.address)
    wait_for_units(there, 2, driver)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 3, errors
    assert "run the same command to continue" in errors
    assert read_state(there) == "PARTIAL"
    assert store.read_json(there / "run/table.json")["status"] == "PARTIAL"
    first = committed_units(there)
    assert 2 < len(first) < 16

    driver = start_driver(there, ray_cluster.address)
    wait_for_units(there, len(first), driver)
    driver.kill()
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    assert not alive(driver.pid)
    assert read_state(there) == "RUNNING"
    second = committed_units(there)
    assert len(second) > len(first)
    assert "PARTIAL" in run_command("runs", there).stdout

    driver = start_driver(there, ray_cluster.address)
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 0, errors
    assert read_state(there) == "COMPLETE"
    # committed results were not computed again
    last = committed_units(there)
    assert len(last) == 16
    assert {name: last[name] for name in second} == second
    assert {name: second[name] for name in first} == first

    local = run_command("run", "digits", *OPTIONS, "--output", tmp_path / "local", "--execution.num-processes", "2")
    assert local.returncode == 0, local.stderr
    assert (there / "run/table.json").read_bytes() == (tmp_path / "local/run/table.json").read_bytes()


def test_an_address_without_a_cluster_is_refused(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    driver = start_driver(tmp_path, "127.0.0.1:1")
    _, errors = driver.communicate(timeout=120)
    assert driver.returncode == 2, errors
    assert "no Ray cluster at '127.0.0.1:1'" in errors
    assert not list(tmp_path.iterdir())
