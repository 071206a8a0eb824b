"""``ungan-dist submit``: a recipe as a job of a Ray cluster."""

from __future__ import annotations

import sys

from ungan_dist.commands.jobs import DEFAULT_ADDRESS, Options, say_outcome
from ungan_dist.commands.options import recipe_config

USAGE = """\
usage: ungan-dist submit RECIPE --output PLACE [--address URL] [--follow] [OPTIONS of run]

Hands a recipe to a Ray cluster's Jobs API. The code travels with it; the data are read where the cluster is, and so are
weights, lists and the module of your own that `custom` is told: they must be there, the module importable.

  --address URL      the Jobs API (default http://127.0.0.1:8265)
  --output PLACE     an absolute folder that all nodes share, or object storage (s3://bucket/prefix)
  --follow           write the job's log here until it ends; Ctrl-C leaves the job at work
  --without-token    the cluster is across a network and has no token on purpose
  any option of `ungan-dist run RECIPE`, for example --fleet.num-workers 16

The token is Ray's: ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN. The same submission again continues a run
that ended early, and is refused while it is at work.

exit codes with --follow: those of `ungan-dist run`; without: 0 handed in, 2 refused
"""


def main(arguments: list[str]) -> int:
    """Hands a run in."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    recipe, *words = arguments
    parser = Options("submit")
    parser.add_argument("--output")
    parser.add_argument("--follow", action="store_true")
    own, options = parser.parse_known_args(words)
    address = own.address or DEFAULT_ADDRESS
    output = ["--output", own.output] if own.output else []
    # refused here if it would be refused there
    config = recipe_config([recipe, *options, *output], command="submit")

    from ungan_dist.cluster.jobs_access import connect
    from ungan_dist.cluster.submit import check_room, cluster_nodes, follow, get_job, hand_in, prepare, trimmed_code

    submission = prepare(config, recipe, options)
    client = connect(address, without_token=own.without_token)
    nodes = cluster_nodes(address)

    check_room(config.fleet, nodes)
    with trimmed_code() as code:
        print(f"code: {code.num_files} files, {code.num_bytes / 1024:,.0f} KiB", file=sys.stderr)
        id = hand_in(client, submission, code, nodes)
    print(f"job {id}\n  run folder: {submission.run}")
    ask = f" --address {address}" if own.address else ""
    if not own.follow:
        print(f"  ungan-dist status {id}{ask}\n  ungan-dist cancel {id}{ask}")
        return 0
    try:
        follow(client, id, _write)
    except KeyboardInterrupt:
        print(f"\njob {id} goes on: ungan-dist status {id}{ask}, ungan-dist cancel {id}{ask}", file=sys.stderr)
        return 3
    return say_outcome(get_job(client, id))


def _write(text: str) -> None:
    print(text, end="", flush=True)
