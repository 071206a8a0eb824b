"""``ungan-dist status``: how far a run or a job has come."""

from __future__ import annotations

from pathlib import Path

from ungan_dist.commands.jobs import DEFAULT_ADDRESS, Options, say_outcome, say_status, seen
from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url

USAGE = """\
usage: ungan-dist status RUN
       ungan-dist status ID [--address URL] [--follow] [--without-token]

Says how far a run folder, a run in object storage, or a job of a cluster, has come; --follow writes
the job's log until it ends.

exit codes: 0 complete; 3 not complete yet; 1 failed; 2 refused, or no such run or job
"""


def main(arguments: list[str]) -> int:
    """Says what is known."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    parser = Options("status")
    parser.add_argument("what")
    parser.add_argument("--follow", action="store_true")
    own = parser.parse_args(arguments)
    if is_url(own.what) or (own.address is None and Path(own.what).is_dir()):
        from ungan_dist.runs.status import read_status

        with seen(own.what) as folder:
            status = read_status(folder)
            if status is None:
                raise ConfigError(f"{own.what} holds no status: it is not a run folder, or its run has not begun")
            return say_status(own.what, folder, status)
    if own.address is None and "/" in own.what:
        raise ConfigError(f"there is no folder {own.what}")

    from ungan_dist.cluster.jobs_access import connect
    from ungan_dist.cluster.submit import follow, get_job

    client = connect(own.address or DEFAULT_ADDRESS, without_token=own.without_token)
    job = get_job(client, own.what)
    if own.follow:
        job = follow(client, own.what, lambda text: print(text, end="", flush=True))
    return say_outcome(job)
