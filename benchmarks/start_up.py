"""Time commands that compute nothing, each the quickest of a few calls."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from harness import value_row

NAMES = ("doctor", "plan", "submit", "status", "cancel", "manifest", "purge", "run digits")
COMMANDS = ("--version", "--help", "recipes", *(f"{name} --help" for name in NAMES))


def seconds(command: str) -> float:
    """Return the wall time of one call."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "ungan_dist", *command.split()], capture_output=True, check=True)
    return time.monotonic() - start


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Time each command."""
    for command in COMMANDS[:1] if quick else COMMANDS:
        yield value_row(f"ungan-dist {command}", wall_s=round(min(seconds(command) for _ in range(3)), 3))
