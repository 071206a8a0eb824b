"""Compare the seconds of a whole audit of the digits with an earlier version.

Run ``python benchmarks/audit_time.py --before CLONE --after CLONE`` on an idle machine, with two clones of this
repository. The versions take turns. Each audit is a command of its own in an empty folder, so its seconds include the
start, the plan, the report and every process. Each row is written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = "digits"
NUM_TURNS = 5


def audit(code: Path, options: list[str]) -> dict[str, object]:
    """Run an audit by a version, and return its seconds and the test accuracy of two of its models.

    Raises:
        SystemExit: The audit has failed, or another version than that of the clone was run.
    """
    environment = {**os.environ, "PYTHONPATH": str(code)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # importing torch takes twice as long without bytecode
    python = [sys.executable, "-W", "ignore"]
    with tempfile.TemporaryDirectory(prefix="audit-time-") as folder:
        where = [*python, "-c", "import ungan_dist; print(ungan_dist.__file__)"]
        found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout
        if not Path(found.strip()).is_relative_to(code):
            raise SystemExit(f"{code} has no ungan_dist; python found {found.strip()}")
        command = [*python, "-m", "ungan_dist", "run", RECIPE, "--output", folder, *options]
        load, cpu_s, begun = os.getloadavg()[0], _cpu_seconds(), time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        seconds, cpu_s = time.perf_counter() - begun, _cpu_seconds() - cpu_s
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        (path,) = Path(folder).glob("*/table.json")
        rows = {row["method"]: row for row in json.loads(path.read_text())["rows"]}
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "accuracy": {name: rows[name]["accuracy"]["test"]["mean"] for name in ("original", "retrain")},
        "methods": len(rows),
        "load": [load, os.getloadavg()[0]],
    }


def _cpu_seconds() -> float:
    """Return the CPU seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, and write the results file after each audit."""
    from harness import RESULTS, describe_commit, write

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="a clone of the earlier version")
    parser.add_argument("--after", type=Path, required=True, help="a clone of the later version")
    parser.add_argument("--turns", type=int, default=NUM_TURNS, help="audits of each version")
    parser.add_argument("--name", default="audit_time", help=f"name of the results file in {RESULTS}")
    parser.add_argument("options", nargs="*", help="options of the audits, after --")
    asked = parser.parse_args()
    arms = {"before": asked.before.resolve(), "after": asked.after.resolve()}
    for code in arms.values():  # else the first audit alone would compile
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(code / "ungan_dist")], check=True)
    facts = {"commits": {name: describe_commit(code) for name, code in arms.items()}}
    rows: list[dict[str, object]] = []
    for turn in range(asked.turns):
        for name in sorted(arms, reverse=turn % 2 == 0):
            rows.append({"turn": turn, "arm": name, **audit(arms[name], asked.options)})
            print(write(asked.name, rows, **facts, options=asked.options), rows[-1], flush=True)


if __name__ == "__main__":
    main()
