"""An attested run, for tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from in_process import run_command


@pytest.fixture(scope="session")
def attested(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run with its attestation, and the keys beside it: read it, and change only copies."""
    output = tmp_path_factory.mktemp("attested") / "out"
    shutil.copytree(finished_run, output)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        assert run_command("attest", "--new-key", output.parent / "key").returncode == 0
        done = run_command("attest", output / "run", "--key", output.parent / "key")
    assert done.returncode == 0, done.stderr
    return output.parent


@pytest.fixture
def place(attested: Path, tmp_path: Path) -> Path:
    """The same for a test that changes it."""
    return shutil.copytree(attested, tmp_path / "place")
