"""Measure everything that needs a GPU, in nine minutes: ``python benchmarks/gpu.py OUTPUT``.

    --parts NAME,NAME    only these parts
    --rehearse           tiny shapes on a pretend GPU (tests/helpers/pretend_gpu); no row of it is a measurement

Each part runs in a process of its own with its own time limit. Each row is appended at once to OUTPUT/rows.jsonl, so
that nothing measured is lost. A part that fails or takes too long leaves a row that says so; its messages are in
OUTPUT/log.txt. A table comes last, as OUTPUT/table.md. ``python benchmarks/publish.py OUTPUT/rows.jsonl`` publishes it.

Neither git nor a network nor an installation is needed: run it from a checkout. Packages that the host lacks may lie in
a folder that PYTHONPATH names; docs/performance.md shows how to pack them. The part "machine" lists those that are
missing, and a part that needs one leaves a row with its name. With CIFAR10_PARQUET, the folder of CIFAR-10's Parquet
files, parts that need real pictures use them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from gpu_parts import PARTS, Part
from gpu_parts.session import Session, read_rows
from gpu_parts.table import format_table

ROOT = Path(__file__).resolve().parents[1]
TOTAL_S = 540.0
START_S = 5.0
"""Seconds of a part's limit that are left for the end of its process."""
REHEARSAL_LIMIT_S = 300.0
LEAST_S = 10.0
"""A part with less time than this is left out."""


def main(arguments: list[str]) -> int:
    """Run the parts in processes of their own. Return 1 if one of them has not succeeded."""
    asked = _parse(arguments)
    asked.output.mkdir(parents=True, exist_ok=True)
    if asked.only is not None:
        _run_here(asked.only, asked)
        return 0
    deadline = time.monotonic() + (TOTAL_S if not asked.rehearse else REHEARSAL_LIMIT_S * len(asked.parts))
    with tempfile.TemporaryDirectory(prefix="gpu-") as folder, (asked.output / "log.txt").open("ab") as log:
        scratch = Path(folder)
        environment = _make_environment(scratch, rehearse=asked.rehearse)
        outcomes = [_run_part(name, PARTS[name], asked, scratch, environment, log, deadline) for name in asked.parts]
    rows = read_rows(asked.output / "rows.jsonl")
    table = format_table(rows)
    (asked.output / "table.md").write_text(table)
    print(table)
    return 0 if all(outcomes) and not any("failed" in row for row in rows) else 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the results")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), metavar="NAME,NAME")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    unknown = [name for name in asked.parts if name not in PARTS]
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return asked


def _make_environment(scratch: Path, *, rehearse: bool) -> dict[str, str]:
    """Return the variables of every part's process."""
    environment = dict(os.environ)
    if rehearse:
        sys.path.append(str(ROOT / "tests/helpers"))
        import pretend_gpu

        environment |= pretend_gpu.environment(scratch)
    paths = [str(ROOT), environment.get("PYTHONPATH", "")]
    # nothing measured before is taken
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "XDG_CACHE_HOME": str(scratch / "cache")}


def _run_part(
    name: str,
    part: Part,
    asked: argparse.Namespace,
    scratch: Path,
    environment: Mapping[str, str],
    log: IO[bytes],
    deadline: float,
) -> bool:
    """Run one part in a process group of its own, and end the whole group at its limit."""
    limit = min(REHEARSAL_LIMIT_S if asked.rehearse else part.limit_s, deadline - time.monotonic())
    session = Session(rows=asked.output / "rows.jsonl", part=name, is_rehearsal=asked.rehearse, scratch=scratch)
    if limit < LEAST_S:
        session.append("the part", left_out="the time of the whole script was spent")
        return False
    command = [sys.executable, "-W", "ignore", __file__, str(asked.output), "--only", name, "--scratch", str(scratch)]
    command += ["--seconds", str(limit - START_S), *(["--rehearse"] if asked.rehearse else [])]
    log.write(f"== {name}\n".encode())
    log.flush()
    begun = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        code = process.wait(limit)
        reason = f"its process ended with exit code {code}: see log.txt" if code else None
    except subprocess.TimeoutExpired:
        reason = f"it took more than {limit:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):  # what it has started, too
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    seconds = time.monotonic() - begun
    session.append("the part", part_s=seconds, **({"failed": reason} if reason else {}))
    print(f"{name}: {seconds:.0f} s, {reason or 'done'}", flush=True)
    return reason is None


def _run_here(name: str, asked: argparse.Namespace) -> None:
    session = Session(
        rows=asked.output / "rows.jsonl",
        part=name,
        is_rehearsal=asked.rehearse,
        scratch=asked.scratch,
        deadline=time.monotonic() + asked.seconds,
    )
    module, _, function = PARTS[name].function.partition(":")
    with session.attempt("the part"):
        getattr(importlib.import_module(f"gpu_parts.{module}"), function)(session)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
