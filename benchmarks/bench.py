"""Run the suites of the benchmark, and compare two results. See ``ungan-dist bench --help``.

Each suite runs in a process of its own and leaves one results file.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from bench_arguments import check_cluster, list_suites, parse
from load import Load, busy_seconds, describe_busy, describe_load, wait_until_idle
from ratio_text import format_ratio
from suites import SUITES

from ungan_dist.errors import ConfigError, Terminated

RESULTS = Path(__file__).resolve().parent / "results"
UNPUBLISHED = "unpublished"
"""Folder in ``RESULTS`` of results that are marked or not whole."""
PATIENCE_S = 60.0
"""Longest wait until the processes of the suite before have ended."""
GRACE_S = 10.0
"""Longest time that a suite gets to remove its files before it is killed."""
PR_SET_PDEATHSIG = 1
"""Of ``prctl``: the signal that this process gets when its parent ends."""


def main(arguments: Sequence[str]) -> int:
    """Run suites, or compare two results."""
    if arguments[:1] == ["compare"]:
        from compare_results import main as compare

        return compare(arguments[1:])
    asked = parse(arguments, RESULTS)
    if asked.suites == ["list"]:
        print(list_suites(RESULTS))
        return 0
    if asked.only:
        return _measure_here(asked.only, asked.rows, quick=asked.quick)
    names = asked.suites or [name for name, suite in SUITES.items() if suite.by_default]
    if any(SUITES[name].needs_cluster for name in names):
        try:
            check_cluster()
        except ConfigError as error:
            print(f"ungan-dist bench: {error}", file=sys.stderr)
            return 2
    failed: list[str] = []
    for number, name in enumerate(names):
        left = names[number:]
        # of the suite before, some processes may not have ended yet
        before, is_idle = wait_until_idle(PATIENCE_S if number and not asked.busy else 0.0)
        if not is_idle and not asked.busy and any(SUITES[one].is_timed for one in left):
            print(f"not measured: {', '.join(left)}. {describe_busy(before)}", file=sys.stderr)
            return 1 if failed else 2
        if not _run(name, asked.output, before, quick=asked.quick):
            failed.append(name)
            print(f"failed: {name}", file=sys.stderr)
    return 1 if failed else 0


def _run(name: str, output: Path, before: float, *, quick: bool) -> bool:
    """Run a suite in a process of its own, write its results file, and return whether all of it was measured."""
    from harness import write

    suite, command = SUITES[name], [sys.executable, "-W", "ignore", __file__, "--only", name]
    print(f"{name}: {suite.title}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "rows.jsonl"
        busy, begun = busy_seconds(), time.monotonic()
        command += ["--rows", str(path), *(["--quick"] if quick else [])]
        pid = os.posix_spawn(command[0], command, os.environ, setpgroup=0)
        try:
            ended = _poll(pid, suite.limit_s)
            status, own_s = ended or _end(pid)
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                _end(pid)
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):  # what it has started, too
                os.killpg(pid, signal.SIGKILL)
        wall_s = time.monotonic() - begun
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    beside = None
    if busy is not None and not suite.has_daemons:
        beside = max(0.0, ((busy_seconds() or busy) - busy - own_s) / wall_s)
    load = Load(before_suite=round(before, 2), beside=beside and round(beside, 2), average=os.getloadavg())
    problems = [f"{row['subject']}: {row['refused']}" for row in rows if "refused" in row]
    if ended is None:
        problems.append(f"it took more than {suite.limit_s:.0f} s")
    elif status:
        problems.append(f"its process ended with exit code {os.waitstatus_to_exitcode(status)}")
    is_marked = suite.is_timed and not load.is_idle
    facts = {
        "quick": quick and suite.has_quick_size,
        "suite": name,
        "title": suite.title,
        "load": asdict(load),
        "is_timed": suite.is_timed,
        "is_marked": is_marked,
    }
    is_kept = output.resolve() == RESULTS and (is_marked or bool(problems))
    # what is published stays until a whole measurement replaces it
    folder = output / UNPUBLISHED if is_kept else output
    written = write(name.replace("-", "_"), rows, folder, **facts, wall_s=round(wall_s, 1), problems=problems)
    for line in ([f"marked: {describe_load(asdict(load))}"] if is_marked else []) + problems:
        print(f"  {line}", file=sys.stderr, flush=True)
    print(f"  {wall_s:.0f} s, written to {written}", flush=True)
    return not problems


def _poll(pid: int, seconds: float) -> tuple[int, float] | None:
    """Return the exit status of a process, and the CPU seconds of it and its children; None if it goes on."""
    deadline = time.monotonic() + seconds
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return status, usage.ru_utime + usage.ru_stime
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)


def _end(pid: int) -> tuple[int, float]:
    """End the process of a suite, which removes its files first. Return the same as ``_poll``."""
    os.kill(pid, signal.SIGTERM)
    if ended := _poll(pid, GRACE_S):
        return ended
    os.killpg(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return status, usage.ru_utime + usage.ru_stime


def _measure_here(name: str, path: Path, *, quick: bool) -> int:
    """Measure a suite in this process, and append each row at once."""
    suite = SUITES[name]
    # the kernel sends it if the process that started this one is killed
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    try:
        with path.open("a") as file:
            for row in getattr(importlib.import_module(suite.module), suite.function)(quick):
                print(f"  {_describe(row)}", flush=True)
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                file.flush()
    except ConfigError as error:
        print(f"  {error}", file=sys.stderr)
        return 1
    except Exception:  # a library may raise anything
        traceback.print_exc()
        return 1
    return 0


def _describe(row: dict[str, Any]) -> str:
    if "ratio" in row:
        return f"{row['subject']}: {format_ratio(row)} times as fast as {row['rival']}"
    found = row.get("counts") or row.get("values") or row.get("refused")
    return f"{row['subject']}: {found}"


def script() -> int:
    """Run as a process, which ends its suite and removes its files when it is interrupted."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _terminate)
    try:
        return main(sys.argv[1:])
    except KeyboardInterrupt as error:
        is_terminated = isinstance(error, Terminated)
        if "--only" not in sys.argv:
            word = "terminated" if is_terminated else "interrupted"
            print(f"ungan-dist bench: {word}; suites that had ended keep their results", file=sys.stderr)
        return 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


if __name__ == "__main__":
    sys.exit(script())
