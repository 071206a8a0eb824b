"""``ungan-dist submit``: run a recipe as a job of a Ray cluster."""

from __future__ import annotations

import sys

from ungan_dist.commands.jobs import JobParser, open_jobs_api, print_job, write_log
from ungan_dist.commands.options import recipe_config
from ungan_dist.files import escape_controls

USAGE = """\
usage: ungan-dist submit RECIPE --output PLACE [--address URL] [--follow] [OPTIONS of run]

Submit a recipe to a Ray cluster's Jobs API. This package's source is sent along, and the modules of your own that the
options name, with the modules beside them that they import. Nothing else is sent: data, weights, lists and installed
packages must already be on every node.

  --address URL      the Jobs API (default http://127.0.0.1:8265)
  --output PLACE     an absolute folder that all nodes share, or object storage (s3://bucket/prefix)
  --follow           print the job's log until it ends; Ctrl-C leaves the job running
  --without-token    allow a remote cluster that has no token
  any option of `ungan-dist run RECIPE`, for example --fleet.num-workers 16

Ray's token is read from RAY_AUTH_TOKEN, the file that RAY_AUTH_TOKEN_PATH names, or ~/.ray/auth_token, which only its
owner may read. Submit again to continue a run that ended early. A run that is still active is refused.

exit codes: with --follow those of `ungan-dist run`; without it 0 submitted, 2 refused
"""


def main(arguments: list[str]) -> int:
    """Submit a run."""
    recipe, *words = arguments or [""]
    parser = JobParser("submit")
    parser.add_argument("--output")
    parser.add_argument("--follow", action="store_true")
    own, options = parser.parse_known_args(words)
    output = ["--output", own.output] if own.output else []
    # refuse wrong options here rather than on the cluster
    config = recipe_config([recipe, *options, *output], command="submit")

    from ungan_dist.cluster.jobs import follow_job
    from ungan_dist.cluster.shipped import copy_code, list_own_files
    from ungan_dist.cluster.submit import prepare_submission, submit_job

    submission = prepare_submission(config, recipe, options)
    files = list_own_files(config)
    client = open_jobs_api(own)
    with copy_code(files) as code:
        id = submit_job(client, submission, code)
    print(f"job {id}\n  run folder: {submission.run}")
    if files:
        print(f"  sent along: {escape_controls(', '.join(sorted(files)))}")
    address = f" --address {own.address}" if own.address else ""
    commands = f"  ungan-dist status {id}{address}\n  ungan-dist cancel {id}{address}"
    if not own.follow:
        print(commands)
        return 0
    try:
        return print_job(follow_job(client, id, write_log))
    except KeyboardInterrupt:
        print(f"\njob {id} is still running\n{commands}", file=sys.stderr)
        return 3
