"""``ungan-dist doctor``: can this machine, or this cluster, do the work?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url, refuse_credentials

if TYPE_CHECKING:
    from ungan_dist.runs.upkeep.doctor import Finding

USAGE = """\
usage: ungan-dist doctor [--output DIR|URL] [--cluster local|auto|HOST:PORT]

Tries what a run needs, and says one line a check: ok, warning or failure, with what to do. Leaves nothing behind.

  --output DIR     the folder of runs and prepared data (default runs)
  --output URL     object storage (s3://, gs://, file://): a small object is written, read and deleted there, and the
                   working folder behind it (~/.cache/ungan_dist) is checked as a folder is
  --cluster local  this machine: python, clock, output folder, disk, memory, prepared data, torch, triton, ffcv
  --cluster auto   the same and this machine's Ray cluster, or one that is started for the purpose
  --cluster HOST:PORT   the same and the cluster there: authentication, and from every node the output folder,
                   the clock, the versions

exit codes: 0 no failure, warnings allowed; 1 a failure; 2 wrong options
"""


def main(arguments: list[str]) -> int:
    """Runs every check and prints its finding."""
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    parser = Parser("doctor")
    parser.add_argument("--output", default="runs")
    parser.add_argument("--cluster", default="local")
    given = parser.parse_args(arguments)
    if not given.cluster or given.cluster.startswith("ray://"):
        raise ConfigError(f"--cluster must be local, auto or host:port, got {given.cluster!r}")
    failed = False
    for finding in _findings(given.output, given.cluster):
        print(finding, flush=True)
        failed |= finding.state == "failure"
    return int(failed)


def _say(what: str) -> None:
    # to somebody who waits; a log has no use for it
    if sys.stderr.isatty():
        print(f"checking {what} …", file=sys.stderr, flush=True)


def _findings(where: str, cluster: str) -> Iterator[Finding]:
    storage = where if is_url(where) else None
    if storage is not None:
        refuse_credentials(storage)
    from ungan_dist.runs.upkeep.doctor import local_findings

    if storage is None:
        output = Path(where).absolute()
    else:
        from ungan_dist.runs.storage.mirror import working_folder

        output = working_folder(storage, None)
    yield from local_findings(output, storage=storage, tell=_say)
    if cluster == "local":
        return
    _say(f"the cluster ({cluster})")

    from ungan_dist.cluster.doctor import cluster_findings

    for finding in cluster_findings(cluster, output):
        # behind storage every node has a working folder of its own
        if storage is None or finding.name != "nodes' folder":
            yield finding
