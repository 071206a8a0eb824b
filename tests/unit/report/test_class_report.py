"""The words of a report on forgotten classes: one name for one set, and where gaps are measured from."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from synthetic_report import make_report

from ungan_dist.attack.evidence import Report, Row
from ungan_dist.attack.verdicts import TOO_WIDE
from ungan_dist.report.conclusions import list_caveats
from ungan_dist.report.html import render_page
from ungan_dist.report.markdown import render_markdown
from ungan_dist.report.terminal import build_terminal_table


def _with_classes(row: Row) -> Row:
    found = row.accuracy["forget"]
    return replace(
        row, accuracy={**row.accuracy, **dict.fromkeys(("non_members", "test_others", "test_forgotten"), found)}
    )


@pytest.fixture(scope="module")
def of_classes() -> Report:
    report = make_report(3, methods=("original", "retrain", "ungan"))
    identity = report.config["identity"] | {"split": {"forget": "class=3"}}
    return replace(
        report,
        config=report.config | {"identity": identity},
        sizes=report.sizes | {"test_others": 270},
        rows=[_with_classes(row) for row in report.rows],
    )


def _print(report: Report) -> str:
    console = Console(width=110, record=True, file=io.StringIO())
    console.print(build_terminal_table(report))
    return " ".join(console.export_text().split())


def _words(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def test_the_report_says_once_and_the_same_where_gaps_are_measured_from(of_classes: Report) -> None:
    page = _words(render_page(of_classes, []))
    assert "All gaps are measured from .5" in page
    assert "all others are compared" not in page
    assert "Gaps are measured from .5, which Retrain has by construction" in _print(of_classes)


def test_sets_have_one_name_on_page_and_terminal(of_classes: Report) -> None:
    page = _words(render_page(of_classes, []))
    for words in (page, render_markdown(of_classes)):
        assert re.search(r"other classes, test(</?b>| )*270", words)
        assert not re.search("test others|Non members|non_members|Test forgotten", words)
    assert "Forgotten classes, never seen: accuracy of each seed" in page
    assert re.search(r"D_u \d", page)
    assert "Never" in _print(of_classes)
    assert "Unseen" not in _print(of_classes)


def test_a_verdict_on_very_few_examples_points_to_p_values() -> None:
    report = make_report(1, methods=("original", "retrain", "ungan"))
    rows = [
        replace(row, verdict=replace(row.verdict, outcome=TOO_WIDE, smallest_delta=0.711)) if row.verdict.gap else row
        for row in report.rows
    ]
    one = replace(report, rows=rows, sizes=report.sizes | {"forget": 1})
    assert "no δ below 0.5" in _print(one)
    assert "0.711" not in _print(one)
    assert any("load_p_values" in text for text in list_caveats(one))
    assert not any("load_p_values" in text for text in list_caveats(replace(one, sizes=report.sizes)))
