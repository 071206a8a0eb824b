"""Run every command of the pages that needs no cluster, as it is written, in a fresh home folder."""

from __future__ import annotations

import pytest
from documented_commands import Command, list_commands
from documented_steps import Outcome, check, run_steps

pytestmark = [pytest.mark.process, pytest.mark.timeout(1500)]

COMMANDS = [command for command in list_commands() if not command.left_out and not command.needs_cluster]
# other runs of these pages share the prepared data, or have data that may be of the same people: both remain
EXIT_CODES = {command.text: 3 for command in COMMANDS if command.text.startswith("ungan-dist purge ")}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_steps(tmp_path_factory.mktemp("home"), COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_a_command_runs_as_it_is_written(outcomes: dict[str, Outcome], command: Command) -> None:
    check(outcomes[command.text], code=EXIT_CODES.get(command.text, 0))
