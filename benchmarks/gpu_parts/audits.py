"""Whole audits by the command line: the digits, killed and continued, and an excerpt of the paper's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpu_parts.session import Session

METHODS = (
    *("original", "retrain", "fine_tuning", "random_labels", "neg_grads", "adv_neg_grads", "unsir", "scrub", "cf_k"),
    *("ungan", "ungan_joint"),
)
DIGITS = (
    *("run", "digits", "--methods", ",".join(METHODS), "--num-seeds", "1", "--train.epochs", "3"),
    *("--shadows.num-models", "8", "--shadows.engine", "graph", "--attack.num-resamples", "200"),
)
PAPER = (
    *("run", "paper", "--methods", "original,retrain,ungan", "--num-seeds", "1", "--train.epochs", "2"),
    *("--shadows.num-models", "4", "--shadows.engine", "graph", "--train.precision", "bf16", "--ungan.epochs", "1"),
)
COMMON = (
    *("--execution.kernels", "reference"),  # the part "kernels" checks them
    *("--execution.progress", "plain", "--execution.run-name", "run"),
)


def kill_and_resume_digits(session: Session) -> None:
    """Kill an audit of every method as soon as it has stored shadow models, and let the same command finish it."""
    methods = session.pick(METHODS, ("original", "retrain", "ungan"))
    output = session.scratch / "digits"
    options = [*DIGITS, *COMMON, "--output", str(output), "--methods", ",".join(methods)]
    if session.is_rehearsal:
        options += ["--split.train", "200", "--split.shadow-pool", "200", "--model.width", "4"]
    with session.attempt("digits, killed and continued"):
        begun = time.monotonic()
        process = _start(options)
        while process.poll() is None and not list(output.glob("shadows/*.json")) and session.seconds_left > 25:
            time.sleep(0.02)
        process.kill()
        process.wait()
        killed_s, kept = time.monotonic() - begun, len(list(output.glob("shadows/*.json")))
        begun = time.monotonic()
        code = _start(options).wait(session.seconds_left)
        facts = _read_report(output / "run", code, methods)
        session.append(
            "digits, killed and continued", killed_s=killed_s, kept=kept, resumed_s=time.monotonic() - begun, **facts
        )


def excerpt_paper(session: Session) -> None:
    """Run a short form of the recipe ``paper`` on real pictures."""
    name = "paper, excerpt"
    if "CIFAR10_PARQUET" not in os.environ:
        session.append(name, left_out="CIFAR10_PARQUET names no folder of CIFAR-10's Parquet files")
        return
    output = session.scratch / "paper"
    options = [*PAPER, *COMMON, "--output", str(output)]
    if session.is_rehearsal:
        options += ["--model.name", "small_cnn", "--model.width", "4"]
        options += ["--split.train", "400", "--split.shadow-pool", "400", "--split.unseen", "100"]
    with session.attempt(name):
        begun = time.monotonic()
        code = _start(options).wait(session.seconds_left)
        facts = _read_report(output / "run", code, ("original", "retrain", "ungan"))
        session.append(name, seconds=time.monotonic() - begun, **facts)


def _start(options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the command line; its messages go to the part's log."""
    return subprocess.Popen([sys.executable, "-m", "ungan_dist", *options])


def _read_report(run: Path, code: int, methods: Sequence[str]) -> dict[str, Any]:
    """Return what the report states, after a check that every row is there.

    Raises:
        RuntimeError: The run has not finished, or a row is missing.
    """
    if code:
        raise RuntimeError(f"the command ended with exit code {code}: see log.txt")
    table = json.loads((run / "table.json").read_text())
    rows = {row["method"] for row in table["rows"]}
    if table["status"] != "COMPLETE" or rows != set(methods):
        raise RuntimeError(f"the report is {table['status']}, with the rows {', '.join(sorted(rows))}")
    return {"status": table["status"], "rows": len(rows)}
