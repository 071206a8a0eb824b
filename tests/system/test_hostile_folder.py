"""Commands that open a run, started inside a folder that somebody else filled, execute nothing of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

MODULES = sorted({name for name in sys.stdlib_module_names if not name.startswith("_")} | {
    *("ungan_dist", "torch", "torchvision", "numpy", "scipy", "matplotlib", "jinja2", "yaml", "safetensors", "PIL"),
    *("pyarrow", "ray", "triton", "numba", "ffcv", "tyro", "rich", "filelock", "sitecustomize", "usercustomize"),
})  # fmt: skip
SETTINGS = {
    "matplotlibrc": "backend: module://hostile_backend\ntext.usetex: True\ntext.latex.preamble: \\input{executed}\n",
    ".numba_config.yaml": "cache_dir: .\n",
    "conftest.py": "open('executed', 'w')\n",
    "hostile_backend.py": "open('executed', 'w')\n",
}


def test_no_module_or_setting_of_the_current_folder_is_used(finished_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(finished_run, tmp_path / "out") / "run"
    (run / "finished.json").unlink()  # not only what the last report said
    figures = {path.name: path.read_bytes() for path in run.glob("figures/*")}
    assert figures
    for name in MODULES:
        (run / f"{name}.py").write_text("open('executed', 'w')\n")
    for name, text in SETTINGS.items():
        (run / name).write_text(text)
    commands = ("report .", "verify .", "verify --quick .", "status .", "runs ..", "purge .")
    script = "\n".join(f"{sysconfig.get_path('scripts')}/ungan-dist {words}" for words in commands)
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=run,
        env={**os.environ, "PYTHONPATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name: path.read_bytes() for path in run.glob("figures/*")} == figures
    assert not list(run.rglob("executed"))
    # purge removes what it does not know
    assert not list(run.rglob("*.py"))
