"""Time of commands that compute nothing; with a finished run as argument, also of those on it.

``python benchmarks/start_up.py [RUN]`` prints the quickest of three calls of each and writes
``results/start_up.json``.
"""

from __future__ import annotations

import subprocess
import sys
import time

import harness

NAMES = ("doctor", "plan", "submit", "status", "cancel", "manifest", "purge", "run digits")
COMMANDS = ("--version", "--help", "recipes", *(f"{name} --help" for name in NAMES))


def seconds(command: str) -> float:
    """Return the wall time of one call."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "ungan_dist", *command.split()], capture_output=True, check=True)
    return time.monotonic() - start


def main() -> None:
    rows: list[dict[str, object]] = []
    about_run = [f"{name} {sys.argv[1]}" for name in ("report", "status", "verify --quick")] if sys.argv[1:] else []
    for command in (*COMMANDS, *about_run):
        rows.append({"subject": f"ungan-dist {command}", "seconds": min(seconds(command) for _ in range(3))})
        print(rows[-1])
    harness.write("start_up", rows)


if __name__ == "__main__":
    main()
