"""Every script of ``benchmarks/`` explains itself on ``--help``, and starts no work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*.py") if 'if __name__ == "__main__"' in path.read_text())
# one process, because each would import torch
CODE = """
import contextlib, io, runpy, sys
sys.path.insert(0, sys.argv[1])
for script in sys.argv[2:]:
    sys.argv, printed, code = [script, "--help"], io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        code = ended.code or 0
    print(script, code, len(printed.getvalue().splitlines()), sep="\\t", flush=True)
"""


def test_every_script_has_help() -> None:
    scripts = [str(path) for path in SCRIPTS]
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(BENCHMARKS), *scripts]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"TRITON_INTERPRET": "1"})
    found = {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}
    assert list(found) == scripts, done.stderr
    assert all(code == "0" and int(num_lines) >= 3 for code, num_lines in found.values()), found
