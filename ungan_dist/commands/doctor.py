"""``ungan-dist doctor``: check this machine and a cluster."""

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

Check what a run needs. Print one line per check: ok, warning or failure, with a remedy. Leave nothing behind.

  --output DIR     folder for runs and prepared data (default runs)
  --output URL     object storage (s3://, gs://, file://): write, read and delete a small object there, and check the
                   working folder behind it (~/.cache/ungan_dist)
  --cluster local  this machine: python, output folder, rights, disk, memory, torch, triton, kernels,
                   ffcv
  --cluster auto   also the cluster of RAY_ADDRESS, or yours on this machine; one is started if there is none
  --cluster HOST:PORT   also the cluster there: your token and who can read it, authentication, encryption, and from
                   every node the output folder, the shared memory and the versions

exit codes: 0 no failure, warnings allowed; 1 a failure; 2 wrong options
"""


def main(arguments: list[str]) -> int:
    """Run every check and print its finding."""
    parser = Parser("doctor")
    parser.add_argument("--output", default="runs")
    parser.add_argument("--cluster", default="local")
    options = parser.parse(arguments)
    if not options.cluster or options.cluster.startswith("ray://"):
        raise ConfigError(f"--cluster must be local, auto or host:port, got {options.cluster!r}")
    failed = False
    for finding in _findings(options.output, options.cluster):
        print(finding, flush=True)
        failed |= finding.state == "failure"
    return int(failed)


def _announce(check: str) -> None:
    if sys.stderr.isatty():
        print(f"checking {check} …", file=sys.stderr, flush=True)


def _findings(output: str, cluster: str) -> Iterator[Finding]:
    storage = output if is_url(output) else None
    if storage is None:
        folder = Path(output).absolute()
    else:
        refuse_credentials(storage)
        from ungan_dist.runs.storage.mirror import working_folder

        folder = working_folder(storage, None)

    from ungan_dist.runs.upkeep.doctor import run_checks

    yield from run_checks(folder, storage=storage, on_check=_announce)
    if cluster == "local":
        return
    _announce(f"the cluster ({cluster})")

    from ungan_dist.cluster.doctor import check_cluster

    for finding in check_cluster(cluster, folder):
        # with object storage, every node has a working folder of its own
        if storage is None or finding.name != "nodes' folder":
            yield finding
