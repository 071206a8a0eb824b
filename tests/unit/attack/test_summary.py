"""A report in one line, and as a notebook's table."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from synthetic_report import make_report


class Cells(HTMLParser):
    """Collects the texts of a table's cells, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def test_a_report_is_one_line_with_its_verdicts_and_folder() -> None:
    report = replace(make_report(3), folder=Path("runs/digits-3f2a9c0d"))
    text = repr(report)
    assert len(text.splitlines()) == 1
    assert len(text) < 200
    outcomes = {row.method: row.verdict.outcome for row in report.rows}
    assert len(outcomes) == 5
    # neither the original nor Retrain nor the control counts
    first, second = outcomes["fine_tuning"], outcomes["ungan"]
    assert text.count(f"(1 {first}, 1 {second})") == 1
    assert text.endswith("; runs/digits-3f2a9c0d>")
    assert repr(make_report(1, methods=(), status="PARTIAL")).endswith("PARTIAL, 0 rows>")


def test_a_notebook_shows_every_row_and_escapes_names() -> None:
    report = make_report(3, title="<script>alert(1)</script>")
    report = replace(report, rows=[replace(report.rows[0], title="<b>Original</b>"), *report.rows[1:]])
    page = Cells()
    page.feed(report._repr_html_())
    assert page.tags == {"p", "table", "thead", "tbody", "tr", "th", "td"}
    heading, *lines = page.rows
    assert [line[0] for line in lines] == [row.title for row in report.rows]
    assert all(len(line) == len(heading) for line in lines)
    for line, row in zip(lines, report.rows, strict=True):
        assert line[heading.index("Attack AUC")].startswith(f"{row.auc.mean:.3f} [{row.auc.low:.3f}, ")
        assert line[heading.index("Verdict")].startswith(row.verdict.outcome)
        accuracy = row.accuracy["forget"]
        assert line[heading.index("Forget %")].startswith(f"{100 * accuracy.mean:.1f} ")
