"""report.html: one file that opens offline and loads nothing. Without its one script, everything can be read."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from ungan_dist.attack.evidence import Report
from ungan_dist.attack.forgotten import ForgottenExample
from ungan_dist.attack.summary import format_outcome
from ungan_dist.report import earlier, relearning
from ungan_dist.report.cells import (
    PAPER_GROUP,
    PAPER_NOTE,
    VERDICT_GROUP,
    Column,
    build_columns,
    explain_omitted_columns,
    format_number,
    format_seconds,
    format_signed,
    name_column,
    name_sizes,
    style_of,
    style_of_row,
)
from ungan_dist.report.conclusions import (
    list_caveats,
    list_counts,
    list_limits,
    list_not_tested,
    list_seeds,
    write_conclusions,
    write_failure,
)
from ungan_dist.report.drawing import Drawing, inline_svg
from ungan_dist.report.explanations import explain_table
from ungan_dist.report.forget_files import describe_forget_file
from ungan_dist.report.looks import describe_looks
from ungan_dist.report.low_p_values import build_low_p_table
from ungan_dist.report.method_sections import build_sections, name_section
from ungan_dist.report.power import describe_power, get_delta
from ungan_dist.report.stages import build_stage_table, explain_stages
from ungan_dist.report.timings import average_seconds, collect_seconds

NUM_RANKED = 5
"""Examples that the page names as most and as least forgotten."""
TEMPLATES = Path(__file__).parent / "templates"


class Cell(NamedTuple):
    """Text of a table cell: the value, and its interval for a second line."""

    value: str
    interval: str
    is_reason: bool


class Group(NamedTuple):
    """Columns under one heading."""

    name: str
    columns: list[Column]


class SensitivityLine(NamedTuple):
    """One method's AUC by number of shadow models."""

    title: str
    numbers: list[int]
    aucs: list[float]


@functools.cache
def _load_template() -> Template:
    """Compile the template, once a process: it takes half the time of a page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("report.html.j2")


def render_page(report: Report, drawings: list[Drawing]) -> str:
    """Render the page; Jinja2 escapes every text in it."""
    return _load_template().render(
        report=report,
        drawings=drawings,
        policy=make_policy(),
        script=read_script(),
        sizes=name_sizes(report),
        counts=list_counts(report),
        num_methods=sum(count.number for count in list_counts(report)),
        delta=get_delta(report),
        sections=build_sections(report, drawings),
        shared=[drawing for drawing in drawings if not drawing.method],
        power=describe_power(report),
        verdict_group=VERDICT_GROUP,
        paper_note=f"{PAPER_GROUP}: {PAPER_NOTE}.",
        groups=_group_columns(report),
        conclusions=write_conclusions(report),
        low_p_values=build_low_p_table(report),
        omitted=explain_omitted_columns(report),
        explanations=explain_table(report),
        caveats=list_caveats(report),
        limits=list_limits(report),
        not_tested=list_not_tested(report),
        looks=describe_looks(report),
        earlier=earlier.build_earlier_tables(report),
        earlier_note=earlier.EXPLANATION,
        relearning=relearning.build_relearning_table(report),
        relearning_note=relearning.EXPLANATION,
        stages=build_stage_table(report),
        stages_note=explain_stages(report),
        times=_list_times(report),
        seeds=list_seeds(report),
        config=_flatten(report.config),
        resolved=_flatten(report.resolved),
        provenance=_list_provenance(report),
        sensitivity=_list_sensitivity(report),
        ranked=_rank_examples(report),
        encode=lambda png: base64.b64encode(png).decode(),
        **{
            function.__name__: function
            for function in (
                describe_forget_file,
                format_number,
                format_outcome,
                format_signed,
                inline_svg,
                name_column,
                name_section,
                style_of,
                style_of_row,
                write_failure,
            )
        },
        split_cell=_split_cell,
    )


def read_script() -> str:
    """Read the page's script, which sorts, filters and copies the table."""
    return (TEMPLATES / "report.js").read_text()


def make_policy() -> str:
    """Make the page's content security policy. It lets nothing be loaded, and no script run but the page's own."""
    digest = base64.b64encode(hashlib.sha256(read_script().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


def _group_columns(report: Report) -> list[Group]:
    """Group the columns by heading, the verdict's first."""
    if not report.rows:
        return []
    found = build_columns(report)
    found = [column for column in found if column.group == VERDICT_GROUP] + [
        column for column in found if column.group != VERDICT_GROUP
    ]
    return [Group(name, list(columns)) for name, columns in groupby(found, key=lambda column: column.group)]


def _split_cell(text: str) -> Cell:
    if text.startswith("n/a"):
        return Cell(text, "", is_reason=True)
    value, _, interval = text.partition(" ")
    return Cell(value, interval, False) if interval.startswith(("±", "[")) else Cell(text, "", False)


class RankedExamples(NamedTuple):
    """The least and the most forgotten examples of one method."""

    title: str
    least: list[ForgottenExample]
    most: list[ForgottenExample]


def _rank_examples(report: Report) -> list[RankedExamples]:
    """Rank the forget examples of each method, if the report may show single examples at all."""
    if not report.examples or any(item.p_values is None for item in report.evidence):
        return []
    return [
        RankedExamples(
            row.title, report.least_forgotten(row.method, NUM_RANKED), report.most_forgotten(row.method, NUM_RANKED)
        )
        for row in report.rows
    ]


def _list_sensitivity(report: Report) -> list[SensitivityLine]:
    found = ((row.title, report.sensitivity[row.method]) for row in report.rows if row.method in report.sensitivity)
    return [SensitivityLine(title, list(aucs), list(aucs.values())) for title, aucs in found]


def _list_provenance(report: Report) -> list[tuple[str, str]]:
    """List what was computed, from which data, by which versions on which hardware."""
    facts = [("recipe", report.recipe), ("run", report.run_hash), ("data, SHA-256", report.data_hash or "unknown")]
    return [*facts, *report.versions.items()]


def _list_times(report: Report) -> list[tuple[str, str]]:
    titles, means = {row.method: row.title for row in report.rows}, average_seconds(report)
    return [
        (
            titles.get(method, method),
            f"{format_seconds(means[method])} s (by seed: {', '.join(map(format_seconds, found.values()))})",
        )
        for method, found in collect_seconds(report).items()
    ]


def _flatten(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Write nested settings as dotted names."""
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        rows += _flatten(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, _write_value(value))]
    return rows


def _write_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == {} else str(value)
