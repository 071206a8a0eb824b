"""Every promise of SECURITY.md is a row of ``docs/promises.md``, whose tests exist."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest
from promises import NO_PROMISE, ROOT, SECURITY, TABLE, list_sentences, read_table

SENTENCES = list_sentences(SECURITY.read_text())
PROMISES = read_table(TABLE.read_text())
OTHERS = [beginning for beginnings in NO_PROMISE.values() for beginning in beginnings]


def test_every_sentence_is_a_promise_with_a_test_or_has_a_reason_to_be_none() -> None:
    assert len(PROMISES) > 60
    rest = [sentence for sentence in SENTENCES if sentence not in PROMISES]
    without = [sentence for sentence in rest if not sentence.startswith(tuple(OTHERS))]
    assert not without, f"add a row to {TABLE.name}, or a reason to NO_PROMISE"


def test_every_row_is_a_sentence_of_the_page() -> None:
    assert set(PROMISES) <= set(SENTENCES)


@pytest.mark.parametrize("beginning", OTHERS)
def test_every_reason_has_one_sentence(beginning: str) -> None:
    found = [sentence for sentence in SENTENCES if sentence.startswith(beginning)]
    assert len(found) == 1
    assert found[0] not in PROMISES
    assert Counter(OTHERS)[beginning] == 1


def test_sentences_are_found_in_every_form() -> None:
    page = "# A title\n\nOne is so. It goes\non: **Two.** `three` is.\n\n```\ncode. Code\n```\n"
    page += "- an item\n| a | b |\n|---|---|\n"
    assert list_sentences(page) == ["One is so.", "It goes on:", "Two.", "`three` is.", "an item", "a | b"]


def collect(*tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", *tests],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.process
def test_every_named_test_exists() -> None:
    named = sorted({test for tests in PROMISES.values() for test in tests})
    done = collect(*named)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    collected = {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}
    assert collected == set(named)


@pytest.mark.process
def test_a_test_that_does_not_exist_is_found() -> None:
    done = collect("tests/system/test_promises.py::test_that_is_not_there")
    assert done.returncode != 0
    assert "not found" in done.stdout + done.stderr
