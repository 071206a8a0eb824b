"""``ungan-dist bench``: measure this version, with the benchmarks of its checkout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ungan_dist.errors import ConfigError

USAGE = """\
usage: ungan-dist bench [SUITE …] [--output DIR] [--quick] [--busy]
       ungan-dist bench compare OLD NEW
       ungan-dist bench list

Measures this version on this machine and writes one JSON file for each suite: rows with intervals, errors and counts,
and the commit, the hardware, the versions and the load of the machine. Needs a checkout of the repository, because the
benchmarks are not installed.

Arms take turns in one process. A time whose result is wrong is refused, and the exit code is then 1. A suite that
measures seconds is refused while other work takes more than 15 % of the cores just before it. `ungan-dist bench list`
prints the suites, how long each took where it was published, and which of them run only if named. The suite cluster
measures the Ray cluster that RAY_ADDRESS names.

  --output DIR  folder of the results; defaults to benchmarks/results of the checkout. There, the result of a suite that
                failed or is marked replaces nothing: it is written to the folder unpublished
  --quick       tiny sizes, to try the suites out; nothing is a measurement. Needs --output
  --busy        measure beside other work; the results are marked and cannot be published. Needs --output

compare prints what changed between two results files or folders, in the suites that both have; it names the others.
Times are relative to a rival that was timed in the same process; a slower time is no failure. These are: a count that
has grown or is no longer taken, a result that is wrong now, and a suite that did not end. Counts are operations,
launches, host waits, bytes and imports.

exit codes: 0 success, and compare found no failure; 1 a suite failed, or compare found a failure; 2 wrong input, or a
busy machine; 130 or 143 interrupted, and suites that had ended keep their results

examples:
  ungan-dist bench counts scoring
  ungan-dist bench compare benchmarks/results NEW
"""
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/bench.py"


def main(arguments: list[str]) -> int:
    """Run the benchmarks of the checkout that this package is imported from, in place of this process."""
    if not SCRIPT.is_file():
        raise ConfigError(
            f"the benchmarks are not installed with the package ({SCRIPT} does not exist): clone the repository, call "
            "make setup there, then .venv/bin/ungan-dist bench"
        )
    # takes the place of this process, so that signals reach the benchmark
    os.execv(sys.executable, [sys.executable, "-W", "ignore", str(SCRIPT), *arguments])
