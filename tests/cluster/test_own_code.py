"""The file of docs/own-method.md with a model of timm on two nodes: killed, continued, equal to a run without Ray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import run_command
from PIL import Image

from ungan_dist import store
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.units import execute

pytestmark = pytest.mark.ray

PAGE = Path(__file__).parents[2] / "docs/own-method.md"
OPTIONS = [
    *("--source.path", "pictures", "--forget", "forget.csv", "--train.function", "mine:fit"),
    *("--train.augment.factory", "mine:augment", "--methods", "original,retrain,mine:blend", "--blend.share", "0.3"),
    *("--model", "timm:test_vit", "--shadows.num-models", "12", "--shadows.unit-size", "2", "--attack.fnr", "0.1"),
    *("--attack.num-resamples", "100", "--execution.run-name", "run", "--execution.progress", "json"),
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stranger, in which commands run: a file, pictures and a list."""
    source = re.search(r"^```python\n((?:(?!^```).)*?def augment.*?)^```", PAGE.read_text(), re.S | re.M)
    assert source is not None
    (tmp_path / "mine.py").write_text(source[1])
    rng = np.random.default_rng(0)
    names = [f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(60)]
    for name in names:
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(path)
    (tmp_path / "forget.csv").write_text("\n".join(["id", *names[:8]]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def make_command(cluster: str) -> list[str]:
    fleet = ["--fleet.num-workers", "2", "--fleet.gpus-per-worker", "0", "--output", "there"]
    return ["run", "custom", *OPTIONS, "--cluster", cluster, *fleet]


def committed_units(output: Path) -> dict[str, int]:
    return {marker.name: marker.stat().st_mtime_ns for marker in (output / "shadows").glob("*.json")}


def list_nodes() -> set[int]:
    """List the raylets, one a node, that have workers of a fleet; the token tells them from those of other clusters."""
    token, found = os.environ["RAY_AUTH_TOKEN"].encode(), set[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::Worker" in (folder / "cmdline").read_bytes() and token in (folder / "environ").read_bytes():
                found.add(int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]))
        except OSError:
            continue
    return found


def read_results(output: Path) -> dict[str, bytes]:
    """The weights of every model, the log-odds of every model and shadow model, and the table."""
    files = [*output.glob("run/models/*/*"), *output.glob("run/log_odds/*/*"), *output.glob("shadows/*.npy")]
    return {str(path.relative_to(output)): path.read_bytes() for path in (*files, output / "run/table.json")}


@pytest.mark.timeout(300)
def test_a_strangers_code_survives_the_kill_of_its_driver(
    project: Path, ray_cluster: Any, without_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = project / "there", project / "here"
    command = make_command(ray_cluster.address)
    driver = subprocess.Popen(
        [sys.executable, "-m", "ungan_dist", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(committed_units(there)) < 3:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(list_nodes()) == 2
    driver.kill()
    driver.communicate()
    before = committed_units(there)
    assert not (there / "run/table.json").exists()

    continued = run_command(*command)
    assert continued.returncode == 0, continued.stderr
    assert {name: committed_units(there)[name] for name in before} == before

    monkeypatch.setattr(LocalPool, "run_units", lambda pool, units: map(execute, units))
    done = run_command("run", "custom", *OPTIONS, "--output", "here")
    assert done.returncode == 0, done.stderr
    ours, theirs = read_results(there), read_results(here)
    assert len(theirs) == 3 * 3 + 6 + 1
    assert ours == theirs
    methods = [row["method"] for row in store.read_json(there / "run/table.json")["rows"]]
    assert methods == ["original", "retrain", "mine:blend"]
