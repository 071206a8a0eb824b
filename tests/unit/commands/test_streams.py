"""Output in an encoding that lacks some characters, and the separation of standard output and error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def report_on(output: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ungan_dist", "report", output / "run"]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=True)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=str,
)
def test_a_terminal_without_utf_8_gets_the_table_in_its_encoding(output: Path, environment: dict[str, str]) -> None:
    shown = report_on(output, **environment).stdout
    text = shown.decode(environment.get("PYTHONIOENCODING", "ascii"))
    assert "delta >= " in text
    assert "?" not in text
    assert all(f"{name} " in text for name in ("Original", "Retrain", "UnGAN"))


def test_the_table_is_on_standard_output_without_colours(output: Path) -> None:
    done = report_on(output, PYTHONUTF8="1")
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
    assert "δ ≥ " in done.stdout.decode()
    assert done.stdout.splitlines()[-1] == f"report: {output / 'run/report.html'}".encode()
