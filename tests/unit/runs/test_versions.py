"""What a result's versions record."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ungan_dist import store
from ungan_dist.runs.versions import find_commit, read_driver_version, versions

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024"


def test_the_drivers_version_is_read_from_the_kernel(tmp_path: Path) -> None:
    for text, version in ((OPEN, "580.65.06"), (CLOSED, "535.183.01"), ("nothing", "unknown")):
        (tmp_path / "version").write_text(text + "\nGCC version: gcc 12.3.0\n")
        assert read_driver_version(tmp_path / "version") == version
    assert read_driver_version(tmp_path / "absent") == "unknown"


def test_every_result_has_its_versions_precision_and_format(finished_run: Path) -> None:
    for marker in (*finished_run.glob("shadows/*.json"), *finished_run.glob("run/results/*/*.json")):
        recorded = store.read_marker(marker)["facts"]["versions"]
        assert versions().items() <= recorded.items()
        assert (recorded["precision"], recorded["memory format"]) == ("fp32", "auto")
    page = (finished_run / "run/report.html").read_text()
    assert all(name in page for name in ("triton", "precision", "memory format"))


def test_the_commit_is_that_of_the_clone(tmp_path: Path) -> None:
    package = tmp_path / "clone/ungan_dist"
    package.mkdir(parents=True)
    (package / "code.py").write_text("1")
    assert find_commit(package) is None, "no clone"

    def git(*words: str) -> str:
        settings = ("-c", "user.name=x", "-c", "user.email=x@example.org")
        done = subprocess.run(["git", "-C", tmp_path / "clone", *settings, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    git("init", "-q")
    find_commit.cache_clear()
    assert find_commit(package) is None, "a clone without a commit"
    git("add", ".")
    git("commit", "-qm", "one")
    find_commit.cache_clear()
    assert find_commit(package) == git("rev-parse", "HEAD")
    (tmp_path / "clone/notes.txt").write_text("no code")
    find_commit.cache_clear()
    assert find_commit(package) == git("rev-parse", "HEAD")
    (package / "code.py").write_text("2")
    find_commit.cache_clear()
    assert find_commit(package) == git("rev-parse", "HEAD") + "+changes"
    find_commit.cache_clear()


def test_results_and_the_page_name_the_commit(finished_run: Path) -> None:
    commit = find_commit()
    if commit is None:
        pytest.skip("the package does not run from a clone that git reads")
    page = (finished_run / "run/report.html").read_text()
    for marker in (*finished_run.glob("shadows/*.json"), *finished_run.glob("run/results/*/*.json")):
        recorded = store.read_marker(marker)["facts"]["versions"]["commit"]
        assert recorded.removesuffix("+changes") == commit.removesuffix("+changes")
        assert f'<th scope="row">commit</th><td>{recorded}</td>' in page
