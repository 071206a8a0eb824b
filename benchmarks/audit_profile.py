"""Profile a whole audit of the digits: what its driver's seconds are spent on, and the same command again.

    python benchmarks/audit_profile.py CLONE     profile an earlier version, into benchmarks/results/audit_before.json

``ungan-dist bench audit`` profiles this version.
"""

from __future__ import annotations

import argparse
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from harness import ROOT, describe_commit, value_row, write
from load import Load, is_idle, measure_busy_cores

from ungan_dist.worker_process import WorkerProcess

PARTS = {
    "waiting for training": ("pool.py", "run_units"),
    "imports": ("importlib", "_find_and_load"),
    "planning": ("plan.py", "make_plan"),
    "scoring": ("reporting.py", "build_report"),
    "writing the report": ("reporting.py", "write_report"),
}
"""Part → file and name of the driver's function whose cumulative time it is."""
MOST = 0.2
"""Largest share of a part other than training."""


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Run the audit under a profiler, and twice more without work; then start worker processes."""
    yield from profile(ROOT, quick=quick)
    starts = [_start_worker() for _ in range(3)]
    yield value_row("start of a worker process", s=round(min(starts), 2), target="< 2 s", met=min(starts) < 2)


def profile(code: Path, *, quick: bool) -> Iterator[dict[str, object]]:
    """Profile the audit by the version of a clone.

    Raises:
        RuntimeError: The clone has no such function; a share of zero would hide it.
    """
    small = ["--train.epochs", "1", "--shadows.num-models", "4", "--num-seeds", "1", "--methods", "original,retrain"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "profile"
        words = ["-m", "ungan_dist", "run", "digits", *(small if quick else []), "--output", folder]
        words += ["--execution.progress", "none"]
        cold_s = _run(code, "-m", "cProfile", "-o", str(path), *words)
        again_s = min(_run(code, *words) for _ in range(2))
        profiled: Any = pstats.Stats(str(path))
    yield value_row("ungan-dist run digits", first_s=round(cold_s, 2), again_s=round(again_s, 2))
    for part, (file, function) in PARTS.items():
        is_ours = file.endswith(".py")
        found = [
            row[3]
            for (path, _, name), row in profiled.stats.items()
            if file in path and name == function and (path.startswith(str(code)) or not is_ours)
        ]
        if not found:
            raise RuntimeError(f"no function {function} in {file} of {code} was run")
        share, is_training = max(found) / cold_s, part == "waiting for training"
        facts: dict[str, Any] = {} if is_training else {"target": "< 20 %", "met": share < MOST}
        yield value_row(f"{part}, of the first", share_of_the_time=round(share, 3), **facts)


def _run(code: Path, *words: str) -> float:
    """Run Python on the code of a clone, and return the seconds."""
    environment = {**os.environ, "PYTHONPATH": str(code)}
    command = [sys.executable, "-W", "ignore", *words]
    begun = time.perf_counter()
    # Python would look into the working folder first
    done = subprocess.run(command, env=environment, cwd=tempfile.gettempdir(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr}")
    return time.perf_counter() - begun


def _start_worker() -> float:
    """Return the seconds until a worker process has imported torch and answers."""
    begun = time.perf_counter()
    worker = WorkerProcess()
    worker.call(torch.set_num_threads, 1)
    worker.receive()
    seconds = time.perf_counter() - begun
    worker.stop()
    return seconds


def main() -> None:
    """Profile an earlier version, and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=Path, metavar="CLONE", help="a clone of the earlier version")
    clone = parser.parse_args().clone.resolve()
    busy = measure_busy_cores()
    if not is_idle(busy):
        raise SystemExit(f"{busy:.1f} cores are busy with other work, beside which no speed is measured")
    rows = list(profile(clone, quick=False))
    load = Load(before_suite=round(busy, 2), beside=None, average=os.getloadavg())
    write("audit_before", rows, profiled=describe_commit(clone), load=asdict(load), is_timed=True)


if __name__ == "__main__":
    main()
