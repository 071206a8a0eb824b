"""``make mutants``: three faults for each fused kernel, each of which a test must find.

A mutant is one replaced line. It is applied to a copy of the tree, so that a broken run leaves nothing behind; the test
it names is the smallest that finds it, and is seen green in an unchanged copy first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def mutants(wanted: list[str]) -> list[dict[str, str]]:
    """All that are committed, or those of some operations."""
    paths = sorted((ROOT / "tests" / "unit" / "kernels" / "mutants").glob("*.toml"))
    chosen = [path for path in paths if not wanted or path.stem in wanted]
    return [mutant for path in chosen for mutant in tomllib.loads(path.read_text())["mutant"]]


def main() -> int:
    """The exit status is the number of mutants that live, or that no longer fit the source."""
    chosen = mutants(sys.argv[1:])
    tests = sorted({mutant["test"] for mutant in chosen})
    unchanged = run(tests, None)
    if unchanged.returncode:
        print(f"the tests are red before anything is broken:\n{unchanged.stdout}", file=sys.stderr)
        return 1
    print(f"{len(tests)} tests are green, {len(chosen)} mutants", flush=True)
    survivors = 0
    with ThreadPoolExecutor(max_workers=2) as pool:
        for mutant, outcome in zip(chosen, pool.map(judge, chosen), strict=True):
            survivors += outcome != "killed"
            print(f"{mutant['kernel']}: {mutant['fault']}: {outcome}", flush=True)
    print(f"{len(chosen) - survivors} killed, {survivors} not")
    return survivors


def judge(mutant: dict[str, str]) -> str:
    """Return ``killed`` if the mutant's test fails; a broken import is an error in pytest, not a failure."""
    places = (ROOT / mutant["file"]).read_text().count(mutant["before"])
    if places != 1:
        return f"does not fit: {places} places in {mutant['file']}"
    done = run([mutant["test"]], mutant)
    red = done.returncode == 1 and "1 failed" in done.stdout
    return "killed" if red else f"LIVES (pytest exits {done.returncode})"


def run(tests: list[str], mutant: dict[str, str] | None) -> subprocess.CompletedProcess[str]:
    """Tests in a copy of the tree, changed or not."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        leave = shutil.ignore_patterns(".*", "results", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, tree, symlinks=True, ignore=leave)
        if mutant is not None:
            file = tree / mutant["file"]
            file.write_text(file.read_text().replace(mutant["before"], mutant["after"]))
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", *tests],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )


if __name__ == "__main__":
    sys.exit(main())
