"""``ungan-dist purge``: a run without what it holds of the people to be forgotten."""

from __future__ import annotations

import sys
from pathlib import Path

from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.urls import is_url

USAGE = """\
usage: ungan-dist purge RUN [--shared] [--models] [--dry-run]

Removes the forget data, pictures, scores and log-odds of single examples, and the original models, which saw the
forget data. Keeps the aggregates (table.json, table.md, report.html without pictures), the unlearned models, and
purged.json, the record of it. It cannot be undone, and the run cannot go on.

Beside the run it looks into all prepared data of the output folder: where any of them holds a picture of the forget
set, pixel for pixel, they go too, with what was derived from them by shadow models, unless other runs use them.

  --shared    remove prepared data and shadow models' log-odds even where other runs beside this one use them
  --models    remove the unlearned models too: one that did not forget still holds what it should not
  --dry-run   say what would be removed

Folders of other runs are never touched: a model that was trained there on the same people is purged there.

exit codes: 0 nothing of the forget data is left of this run, nor beside it in data/ and shadows/; 3 something is, or
may be and could not be judged, and is named; 2 no such run
"""


def main(arguments: list[str]) -> int:
    """Purges a run folder."""
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    flags = {word for word in arguments if word.startswith("-")}
    runs = [word for word in arguments if not word.startswith("-")]
    if len(runs) != 1 or flags - {"--shared", "--models", "--dry-run"}:
        raise ConfigError(f"purge takes one run folder, --shared, --models and --dry-run; got {' '.join(arguments)!r}")

    if is_url(runs[0]):
        raise ConfigError(
            f"purge works on folders: delete the run's models/, log_odds/ and membership.npy, and data/ and shadows/ "
            f"beside it, under {runs[0]} with the storage's own tools (its older versions too), and the working folder "
            f"of every machine that worked on it (~/.cache/ungan_dist unless --execution.cache was given)"
        )

    from ungan_dist.runs.upkeep.purge import plan_purge, purge

    act = plan_purge if "--dry-run" in flags else purge
    done = act(Path(runs[0]), shared="--shared" in flags, models="--models" in flags)
    verb = "would be removed" if "--dry-run" in flags else "removed"
    print(f"{done.folder}: {len(done.removed)} files {verb}")
    for name in done.removed:
        print(f"  {name}")
    if done.affected:
        print(f"runs that lose shared files: {', '.join(done.affected)}")
    for note in (*done.doubts, *done.notes):
        print(f"note: {note}", file=sys.stderr)
    if done.in_use:
        print("left, because other runs use it (--shared removes it all the same):", file=sys.stderr)
        for name, users in done.in_use.items():
            print(f"  {name}: {', '.join(users)}", file=sys.stderr)
    return 0 if done.complete else Unfinished.exit_code
