"""No command of the documentation is left out in silence, and no rule or page is forgotten.

`tests/helpers/documented_commands.py` lists what is left out, substituted or added, with reasons.
"""

from __future__ import annotations

import re

import pytest
from documented_commands import (
    ADDITIONS,
    LEFT_OUT,
    PAGES,
    PROGRAMS,
    ROOT,
    STUBS,
    SUBSTITUTIONS,
    Command,
    Rule,
    list_commands,
)

COMMANDS = list_commands()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_every_command_is_run_or_left_out_with_a_reason(command: Command) -> None:
    assert command.left_out or re.match(rf"(?:{PROGRAMS}|mkdir) ", command.text), (
        f"{command.page}: {command.text!r} is new: add its program to PROGRAMS, or the line and a reason to LEFT_OUT"
    )


def test_every_line_that_is_left_out_is_on_a_page() -> None:
    assert set(LEFT_OUT) <= {command.text for command in COMMANDS}


@pytest.mark.parametrize("rule", [*SUBSTITUTIONS, *ADDITIONS], ids=lambda rule: rule.pattern)
def test_every_rule_is_needed(rule: Rule) -> None:
    assert any(re.search(rule.pattern, command.text) for command in COMMANDS)


def test_every_page_is_read_and_has_its_commands_in_plain_blocks() -> None:
    found = {"README.md", "CONTRIBUTING.md", "SECURITY.md"}
    found |= {str(path.relative_to(ROOT)) for folder in ("docs", "cluster") for path in (ROOT / folder).rglob("*.md")}
    assert set(PAGES) == found
    for page in PAGES:
        for language in re.findall(r"^```(.+)$", (ROOT / page).read_text(), re.MULTILINE):
            assert language == "python", f"{page}: commands are in blocks without a language, got {language}"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_files_of_the_repository_exist(command: Command) -> None:
    for word in re.findall(r"(?<![\w/.])cluster/\S+", command.text):
        assert (ROOT / word.split(":")[0]).exists(), word


@pytest.mark.parametrize("program", STUBS)
def test_every_stub_is_needed(program: str) -> None:
    assert any(re.search(rf"\b{program} ", command.text) for command in COMMANDS if not command.left_out)
