"""Profile a whole audit of the digits: what its driver's seconds are spent on, and the same command again."""

from __future__ import annotations

import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from harness import value_row

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
    """Run the audit under a profiler, and twice more without work."""
    small = ["--train.epochs", "1", "--shadows.num-models", "4", "--num-seeds", "1", "--methods", "original,retrain"]
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile"
        words = ["-m", "ungan_dist", "run", "digits", *(small if quick else []), "--output", folder]
        words += ["--execution.progress", "none"]
        cold_s = _run("-m", "cProfile", "-o", str(profile), *words)
        again_s = min(_run(*words) for _ in range(2))
        profiled: Any = pstats.Stats(str(profile))
    yield value_row("ungan-dist run digits", first_s=round(cold_s, 2), again_s=round(again_s, 2))
    for part, (file, function) in PARTS.items():
        found = [row[3] for (path, _, name), row in profiled.stats.items() if file in path and name == function]
        share, is_training = max(found, default=0.0) / cold_s, part == "waiting for training"
        facts: dict[str, Any] = {} if is_training else {"target": "< 20 %", "met": share < MOST}
        yield value_row(f"{part}, of the first", share_of_the_time=round(share, 3), **facts)
    starts = [_start_worker() for _ in range(3)]
    yield value_row("start of a worker process", s=round(min(starts), 2), target="< 2 s", met=min(starts) < 2)


def _run(*words: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-W", "ignore", *words], capture_output=True, check=True)
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
