"""``ungan-dist run``: run a recipe from data to report, or continue it."""

from __future__ import annotations

import dataclasses
import signal
from types import FrameType
from typing import NoReturn

from ungan_dist.commands.options import recipe_config
from ungan_dist.config.recipes import RECIPES
from ungan_dist.errors import Terminated

USAGE = f"""\
usage: ungan-dist run RECIPE [OPTIONS]

Trains, unlearns, attacks and writes the report. The same command continues a run that was stopped, and prints the
report of one that is complete. More seeds, methods or shadow models extend a run.

recipes: {", ".join(RECIPES)}
options: ungan-dist run RECIPE --help
"""


def main(arguments: list[str]) -> int:
    """Run a recipe, continue it, or print its finished report."""
    config = recipe_config(arguments, command="run")

    from ungan_dist.commands.show import show
    from ungan_dist.runs.finished import find_finished

    if finished := find_finished(config):
        return show(finished.report, finished.folder)
    signal.signal(signal.SIGTERM, _terminate)

    from ungan_dist.launch import audit
    from ungan_dist.runs.record import folder_of
    from ungan_dist.urls import is_url, join_url

    report = audit(config)
    if not is_url(config.output):
        return show(report, folder_of(config, report.run_hash))

    from ungan_dist.runs.storage.mirror import working_folder

    folder = folder_of(
        dataclasses.replace(config, output=str(working_folder(config.output, config.execution.cache))), report.run_hash
    )
    return show(report, folder, url=join_url(config.output, folder.name))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
