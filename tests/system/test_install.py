"""With an editable install the package is found from any current folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ungan_dist import __version__

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
BUILD = "import sys, setuptools.build_meta as backend; print(backend.build_editable(sys.argv[1]))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clone named ``ungan_dist``, like the package, and its editable install in ``site``."""
    folder = tmp_path_factory.mktemp("beside")
    for name in ("ungan_dist", "kernels", "cluster"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "ungan_dist" / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, folder / "ungan_dist")
    done = run("-c", BUILD, str(folder), cwd=folder / "ungan_dist")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=100
    )


@pytest.mark.parametrize("place", [".", "ungan_dist", "site", "/"])
def test_the_package_is_found_from_the_clones_parent_and_from_any_folder(installed: Path, place: str) -> None:
    # -S hides all other installed packages, including the one under test
    found = f"import site; site.addsitedir({str(installed / 'site')!r}); "
    result = run("-S", "-c", found + "import ungan_dist; print(ungan_dist.__file__)", cwd=installed / place)
    assert Path(result.stdout.strip()) == installed / "ungan_dist/ungan_dist/__init__.py", result.stderr
    as_module = "import runpy, sys; sys.argv = ['', '--version']; runpy.run_module('ungan_dist', run_name='__main__')"
    result = run("-S", "-c", found + as_module, cwd=installed / place)
    assert (result.returncode, result.stdout.strip()) == (0, __version__), result.stderr
