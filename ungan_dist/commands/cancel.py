"""``ungan-dist cancel``: ends a job; what it has committed is kept."""

from __future__ import annotations

from ungan_dist.commands.jobs import DEFAULT_ADDRESS, Options, say_outcome

USAGE = """\
usage: ungan-dist cancel ID [--address URL] [--without-token]

Stops a job of a cluster and waits for its end. What it has committed is kept; submitting it again continues it.

exit codes: those of `ungan-dist status`: 3 where it was stopped before its end
"""


def main(arguments: list[str]) -> int:
    """Stops a job."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    parser = Options("cancel")
    parser.add_argument("id")
    own = parser.parse_args(arguments)

    from ungan_dist.cluster.jobs_access import connect
    from ungan_dist.cluster.submit import stop

    client = connect(own.address or DEFAULT_ADDRESS, without_token=own.without_token)
    return say_outcome(stop(client, own.id))
