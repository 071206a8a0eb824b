"""Each import contract is violated in a copy of the tree, and ``make check`` must find it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture
def tree(tmp_path):
    """A copy of the packages under contract, including links."""
    for folder in ("ungan_dist", "kernels", "cluster"):
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def run(*command: object, cwd: Path) -> tuple[int, str]:
    """Return exit status and output; the working tree is not on the path, so the copy is read."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=100
    )
    return done.returncode, done.stdout + done.stderr


def lint_imports(tree: Path) -> tuple[int, str]:
    return run(SCRIPTS / "lint-imports", "--no-cache", cwd=tree)


def append(file: Path, line: str) -> None:
    with file.open("a") as stream:
        stream.write(f"\n{line}\n")


def test_the_floors_hold(tree):
    status, output = lint_imports(tree)
    assert status == 0, output


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("ungan_dist/training/train.py", "import ray", "Only cluster knows Ray"),
        ("ungan_dist/training/train.py", "def later():\n    import ray.train", "Only cluster knows Ray"),
        ("kernels/impl.py", "import ray", "Only cluster knows Ray"),
        ("ungan_dist/data/examples.py", "import triton", "Only kernels know Triton"),
        ("cluster/__init__.py", "from triton import language", "Only kernels know Triton"),
        ("ungan_dist/methods/retrain.py", "import ungan_dist.methods.ungan.algorithm", "Methods are independent"),
        ("kernels/impl.py", "import ungan_dist.config.audit", "Floors"),
        ("ungan_dist/data/examples.py", "import ungan_dist.training.train", "Floors"),
        ("ungan_dist/runs/pipeline.py", "import ungan_dist.cluster", "Floors"),
    ],
)
def test_an_import_through_a_floor_breaks_its_contract(tree, file, line, contract):
    append(tree / file, line)
    status, output = lint_imports(tree)
    assert status == 1, output
    broken = [text for text in output.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken), output


def test_a_module_without_a_floor_breaks_the_contract(tree):
    (tree / "ungan_dist" / "utils.py").touch()
    status, output = lint_imports(tree)
    assert status == 1, output
    assert "utils" in output


@pytest.mark.parametrize(("file", "line"), [("cluster/fleet.py", "import ray"), ("kernels/fused.py", "import triton")])
def test_ray_and_triton_are_allowed_in_their_folders(tree, file, line):
    (tree / file).write_text(f"{line}\n")
    status, output = lint_imports(tree)
    assert status == 0, output


@pytest.mark.parametrize("line", ["import kernels", "from kernels.impl import resolve", "import cluster"])
def test_the_linked_folders_are_never_imported_from_the_top(tree, line):
    (tree / "ungan_dist" / "stray.py").write_text(f"{line}\n")
    status, output = run(SCRIPTS / "ruff", "check", "--no-cache", "--select", "TID251", cwd=tree)
    assert status == 1, output
    assert "TID251" in output
    assert "stray.py" in output


@pytest.mark.parametrize(
    "module", ["ungan_dist", "ungan_dist.config.audit", "ungan_dist.config.recipes", "ungan_dist.cli"]
)
def test_importing_the_package_is_instant(module):
    heavy = ("ray", "triton", "ffcv", "matplotlib", "torch", "torchvision", "scipy", "sklearn")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    status, output = run(sys.executable, "-W", "error", "-c", code, cwd=ROOT)
    assert (status, output.strip()) == (0, "[]")


def test_reading_data_needs_no_torch():
    code = "import sys, ungan_dist.data.sources.source; print('torch' in sys.modules)"
    assert run(sys.executable, "-c", code, cwd=ROOT) == (0, "False\n")


def test_the_package_holds_the_linked_folders_and_no_other():
    from setuptools import find_packages

    found = find_packages(str(ROOT), include=["ungan_dist*"])
    assert {"ungan_dist", "ungan_dist.kernels", "ungan_dist.cluster", "ungan_dist.methods"} <= set(found)
    assert all(name == "ungan_dist" or name.startswith("ungan_dist.") for name in found)
