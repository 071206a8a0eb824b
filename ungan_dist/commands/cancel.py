"""``ungan-dist cancel``: stop a job; its committed results are kept."""

from __future__ import annotations

from ungan_dist.commands.jobs import JobParser, open_jobs_api, print_job

USAGE = """\
usage: ungan-dist cancel ID [--address URL] [--without-token]

Stop a job of a cluster and wait for its end. Committed results are kept, and the same `ungan-dist submit` continues the
run.

exit codes: as for `ungan-dist status`; 3 if the run is incomplete
"""


def main(arguments: list[str]) -> int:
    """Stop a job."""
    parser = JobParser("cancel")
    parser.add_argument("id", metavar="ID")
    own = parser.parse(arguments)

    from ungan_dist.cluster.jobs import stop_job

    return print_job(stop_job(open_jobs_api(own), own.id))
