"""``ungan-dist run``: run a recipe from data to report, or continue it."""

from __future__ import annotations

import signal
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from ungan_dist.commands.options import check_records, recipe_config
from ungan_dist.config.recipes import RECIPES
from ungan_dist.errors import Terminated

if TYPE_CHECKING:
    from ungan_dist.config.audit import AuditConfig
    from ungan_dist.runs.finished import Finished

USAGE = f"""\
usage: ungan-dist run RECIPE [OPTIONS]

Trains, unlearns, attacks and writes the report. The same command continues a run that was stopped, and prints the
report of one that is complete. More seeds, methods or shadow models extend a run. Fewer of them give a report of their
own in RUN/reports, from the same models: a run trains only what the command asks for and no report has yet.
--until decided adds seeds, and then shadow models, until every row is decided or the budget ends.

recipes: {", ".join(RECIPES)}
options: ungan-dist run RECIPE --help
"""


def main(arguments: list[str]) -> int:
    """Run a recipe, continue it, or print its finished report."""
    config = recipe_config(arguments, command="run")
    check_records(config)

    from ungan_dist.commands.show import show

    # a tracker may lack what a finished run has
    if config.tracking == "none" and (finished := _find_finished(config)):
        return show(finished.report, finished.folder)
    signal.signal(signal.SIGTERM, _terminate)

    from ungan_dist.launch import audit
    from ungan_dist.runs.views import split_place
    from ungan_dist.urls import is_url, join_url

    report = audit(config)
    assert report.folder is not None
    if not is_url(config.output):
        return show(report, report.folder)
    folder, place = split_place(report.folder)
    return show(report, report.folder, url=join_url(config.output, "/".join(filter(None, (folder.name, place)))))


def _find_finished(config: AuditConfig) -> Finished | None:
    if config.until == "decided":
        from ungan_dist.runs.looks import find_last_look

        return find_last_look(config)
    from ungan_dist.runs.finished import find_finished

    return find_finished(config)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
