"""``ungan-dist purge``: remove the forget data from a run."""

from __future__ import annotations

import sys
from pathlib import Path

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.files import escape_controls
from ungan_dist.urls import is_url

USAGE = """\
usage: ungan-dist purge RUN [--shared] [--models] [--unrelated NAME,…] [--dry-run]

Remove the forget data, the pictures, the scores and log-odds of single examples, and the original models, which were
trained on the forget data. Keep the aggregates (table.json, table.md, report.html without pictures), the unlearned
models and purged.json, the record of the purge. All reports of the run are treated so. This cannot be undone, and the
run cannot continue.

Aggregates over fewer than 10 forget examples describe single people. They are removed too, with the figures.

Symbolic links are not followed. What they lead to, and further hard links of a file, are named as not checked.

Prepared data in the output folder that hold a forget picture, pixel for pixel, are removed too, with the results of
shadow models trained on them, unless other runs use them. Folders of other runs are never touched: purge each.

Data of another shape cannot be compared with the forget pictures. If your own data or those lie beside data of another
shape, the purge names them and exits with 3. Where you know that they are of other people, state it with --unrelated.

  --shared    remove prepared data and shadow models' results even if other runs use them
  --models    remove the unlearned models too, which may still hold what they did not forget
  --unrelated NAME,…
              names of folders in data/ whose examples are of other people, as you know. Forget pictures found in them
              are removed all the same. The statement is part of purged.json
  --dry-run   only list what would be removed

exit codes: 0 no forget data remain in the run, data/ and shadows/; 3 some remain, or could not be checked, and are
listed; 2 not a run
"""


def main(arguments: list[str]) -> int:
    """Purge a run folder."""
    parser = Parser("purge")
    parser.add_argument("run", metavar="RUN")
    for option in ("--shared", "--models", "--dry-run"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--unrelated", metavar="NAME,…", default="")
    own = parser.parse(arguments)
    if is_url(own.run):
        raise ConfigError(
            f"purge needs a folder. In {own.run} delete models/, checkpoints/, log_odds/, summaries/, "
            f"unlearned_shadows/, failures/, reports/, report.html, records.parquet and membership.npy, and data/ and "
            f"shadows/ beside it, with the storage's own tools, older versions too. "
            f"Over fewer than 10 forget examples, delete all of it. On every machine that worked on the run, "
            f"delete the working folder (~/.cache/ungan_dist, or --execution.cache)"
        )

    from ungan_dist.runs.upkeep.purge import plan_purge, purge
    from ungan_dist.runs.views import split_place

    run, place = split_place(Path(own.run))
    if place:
        raise ConfigError(f"{own.run} is one report of a run, and its forget data are those of the run: purge {run}")

    action, verb = (plan_purge, "would be removed") if own.dry_run else (purge, "removed")
    unrelated = {name.strip().removeprefix("data/") for name in own.unrelated.split(",")} - {""}
    try:
        done = action(Path(own.run), shared=own.shared, models=own.models, unrelated=unrelated)
    except OSError as error:
        raise Unfinished(
            f"the purge stopped at {error.filename or own.run} ({error.strerror}). Forget data remain: make the files "
            f"and folders writable, and purge again"
        ) from error
    print(escape_controls("\n  ".join([f"{done.folder}: {len(done.removed)} files {verb}", *done.removed])))
    if done.affected:
        print(escape_controls(f"runs that lose shared files: {', '.join(done.affected)}"))
    for note in (*done.doubts, *done.notes):
        print(escape_controls(f"note: {note}"), file=sys.stderr)
    if done.in_use:
        lines = [f"{name}: {', '.join(users)}" for name, users in done.in_use.items()]
        listing = "\n  ".join(["not removed, because other runs use it (see --shared):", *lines])
        print(escape_controls(listing), file=sys.stderr)
    return 0 if done.complete else Unfinished.exit_code
