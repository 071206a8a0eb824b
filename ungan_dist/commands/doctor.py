"""``ungan-dist doctor``: can this machine, or this cluster, do the work?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ungan_dist.errors import ConfigError

if TYPE_CHECKING:
    from ungan_dist.doctor import Finding

USAGE = """\
usage: ungan-dist doctor [--output DIR] [--cluster local|auto|HOST:PORT]

Tries what a run needs, and says one line a check: ok, warning or failure, with what to do. Leaves nothing behind.

  --output DIR     the folder of runs and prepared data (default runs)
  --cluster local  this machine: python, clock, output folder, disk, memory, prepared data, torch, triton, ffcv
  --cluster auto   the same and this machine's Ray cluster, or one that is started for the purpose
  --cluster HOST:PORT   the same and the cluster there: authentication, and from every node the output folder,
                   the clock, the versions

exit codes: 0 no failure, warnings allowed; 1 a failure; 2 wrong options
"""


class _Options(argparse.ArgumentParser):
    """What is wrong with the options is a ``ConfigError``."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see ungan-dist doctor --help)")


def main(arguments: list[str]) -> int:
    """Runs every check and prints its finding."""
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    parser = _Options(prog="ungan-dist doctor", add_help=False, allow_abbrev=False)
    parser.add_argument("--output", default="runs")
    parser.add_argument("--cluster", default="local")
    given = parser.parse_args(arguments)
    if not given.cluster or given.cluster.startswith("ray://"):
        raise ConfigError(f"--cluster must be local, auto or host:port, got {given.cluster!r}")
    failed = False
    for finding in _findings(Path(given.output).absolute(), given.cluster):
        print(finding, flush=True)
        failed |= finding.state == "failure"
    return int(failed)


def _findings(output: Path, cluster: str) -> Iterator[Finding]:
    from ungan_dist.doctor import local_findings

    yield from local_findings(output)
    if cluster == "local":
        return

    from ungan_dist.cluster.doctor import cluster_findings

    yield from cluster_findings(cluster, output)
