"""``ungan-dist doctor``: is everything as a run needs it?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.commands.jobs import Options

if TYPE_CHECKING:
    from ungan_dist.doctor.finding import Finding

USAGE = """\
usage: ungan-dist doctor [--output FOLDER] [--cluster auto|HOST:PORT]

Tries what a run needs, by doing it: a product in torch (on every GPU), a Triton kernel, an FFCV file, a result
committed to the output folder, the hashes of prepared data, clocks, memory, disk, and whether a Ray dashboard stands
open. With --cluster also, on every node: storage that is shared, equal versions, clocks, memory.

  --output FOLDER    where runs are written (default runs)
  --cluster ADDRESS  a Ray cluster: auto for this machine's, or host:6379

Each line is ok, warning (runs go on) or failure, with the remedy.
exit codes: 0 no failure; 1 a failure; 2 wrong options
"""


def main(arguments: list[str]) -> int:
    """Examines; says what it finds as it finds it."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE, end="")
        return 0
    parser = Options("doctor")
    parser.add_argument("--output", default="runs")
    parser.add_argument("--cluster", default=None)
    own = parser.parse_args(arguments)
    failed = False
    for finding in _findings(Path(own.output).absolute(), own.cluster):
        print(f"{finding.level:<8} {finding.name:<16} {finding.message}", flush=True)
        if finding.remedy:
            print(f"{'':<25} → {finding.remedy}", flush=True)
        failed |= finding.level == "failure"
    return int(failed)


def _findings(output: Path, cluster: str | None) -> Iterator[Finding]:
    from ungan_dist.doctor.exposure import check_exposure
    from ungan_dist.doctor.machine import check_disk, check_memory
    from ungan_dist.doctor.software import check_software
    from ungan_dist.doctor.storage import check_clock, check_data, check_storage

    yield check_memory()
    yield check_disk(output)
    yield check_storage(output)
    yield check_clock(output)
    yield from check_data(output)
    yield from check_exposure()
    yield from check_software()
    if cluster is not None:
        from ungan_dist.cluster.doctor import check_cluster

        yield from check_cluster(cluster, output)
