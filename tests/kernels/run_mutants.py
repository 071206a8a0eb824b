"""``make mutants``: three faults for each fused operation, each of which the tests must find.

A mutant is one replaced line. It is applied to a copy of the tree, so that a broken run leaves nothing behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    """The exit status is the number of mutants that live, or that no longer fit the source."""
    wanted = sys.argv[1:]
    survivors = 0
    for path in sorted((ROOT / "tests" / "kernels" / "mutants").glob("*.toml")):
        if wanted and path.stem not in wanted:
            continue
        for mutant in tomllib.loads(path.read_text())["mutant"]:
            outcome = judge(mutant)
            survivors += outcome != "killed"
            print(f"{path.stem}: {mutant['fault']}: {outcome}", flush=True)
    return survivors


def judge(mutant: dict[str, str]) -> str:
    """``killed`` where the tests named by the mutant fail as tests do, not as a broken import does."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venv", "runs", "__pycache__")
        )
        file = tree / mutant["file"]
        source = file.read_text()
        if source.count(mutant["before"]) != 1:
            return f"does not fit: {source.count(mutant['before'])} places in {mutant['file']}"
        file.write_text(source.replace(mutant["before"], mutant["after"]))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", mutant["tests"]],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
        )
        red = done.returncode == 1 and "AssertionError" in done.stdout + done.stderr
        return "killed" if red else f"LIVES (pytest exits {done.returncode})"


if __name__ == "__main__":
    sys.exit(main())
