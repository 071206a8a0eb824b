"""report.html: one file that opens offline, loads nothing and runs no script."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from typing import Any

from ungan_dist.attack.evidence import Report, Row
from ungan_dist.report.cells import (
    PAPER_GROUP,
    PAPER_NOTE,
    VERDICT_GROUP,
    Column,
    build_columns,
    explain_omitted_columns,
    format_delta,
    format_gap,
    format_number,
    format_seconds,
    format_signed,
)
from ungan_dist.report.conclusions import (
    LIMITS,
    NOT_TESTED,
    explain_table,
    get_delta,
    list_caveats,
    list_seeds,
    write_conclusion,
)
from ungan_dist.report.figures import Drawing, inline_svg
from ungan_dist.report.style import CSS
from ungan_dist.report.timings import average_seconds, collect_seconds

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_page(report: Report, drawings: list[Drawing]) -> str:
    """The whole page; every text in it is escaped."""
    title = escape(report.title)
    sections = [
        _header(report),
        _section("What may be concluded", _conclusions(report)),
        _section("Results", _results(report)),
        _section("How well the attack separates", _figures(drawings, "roc", _ROC_NOTE)),
        _section("Log-odds before and after", _figures(drawings, "log_odds", _LOG_ODDS_NOTE)),
        *([_section("Forget examples", _examples(report))] if report.examples else []),
        _section("Training curves", _figures(drawings, "curves", _CURVES_NOTE, dense=True)),
        _section(
            "What was not tested",
            f"<p>Attacks that were not run:</p>{_bullets(NOT_TESTED)}<p>And always:</p>{_bullets(LIMITS)}",
        ),
        _section("Files that still hold forget data", _forget_files(report)),
        _section("Time", _times(report)),
        _section("How it was made", _provenance(report)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: what was forgotten</title>\n<style>{CSS}</style>\n</head>\n"
        f"<body>\n<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


_ROC_NOTE = (
    "Mean over the seeds, both axes logarithmic: what matters is the lower left, where the attacker is nearly sure. "
    "A curve that is absent there accuses nobody at that rate."
)
_LOG_ODDS_NOTE = (
    "log(p / (1 − p)) of the true class, mean over the queries, all seeds together, the same axes in every panel; "
    "what lies beyond them is counted in the outermost bins."
)
_CURVES_NOTE = "Mean loss of each epoch or round: seeds thin, their mean bold."


def _header(report: Report) -> str:
    sizes = "".join(f"<li>{escape(name.replace('_', ' '))} <b>{size:,}</b></li>" for name, size in report.sizes.items())
    notice = ""
    if report.status != "COMPLETE":
        missing = _bullets(report.missing) or "<p>It is not known what.</p>"
        notice = (
            f'<div class="notice" role="alert"><p><strong>{escape(report.status)}: this run is not finished.</strong> '
            f"What follows rests on the part that is; missing:</p>{missing}</div>"
        )
    return (
        f"<header><h1>{escape(report.title)}: what was forgotten</h1>"
        f"{_summary(report)}"
        f'<p class="quiet">Recipe <code>{escape(report.recipe)}</code>, run '
        f'<code title="{escape(report.run_hash)}">{escape(report.run_hash[:16])}</code>{_made_with(report)}</p>'
        f'<ul class="sizes small">{sizes}</ul>{notice}</header>\n'
    )


def _summary(report: Report) -> str:
    """The verdicts counted."""
    outcomes = ("under-forgotten", "inconclusive", "over-forgotten", "equivalent")
    if not report.rows:
        return ""
    found = [row.verdict.outcome for row in report.rows]
    counts = ", ".join(
        f'<span class="{outcome}"><b class="badge">{found.count(outcome)} {outcome}</b></span>' for outcome in outcomes
    )
    value = get_delta(report)
    return f'<p class="summary">{counts}{"" if value is None else f"; δ = {value:g}"}</p>'


def _made_with(report: Report) -> str:
    """Versions of what counts; no date, so that the same run gives the same page."""
    named = [(name, report.versions[name]) for name in ("ungan-dist", "ungan_dist", "torch") if name in report.versions]
    return "".join(f", {escape(name)} {escape(version)}" for name, version in named)


def _conclusions(report: Report) -> str:
    if not report.rows:
        return "<p>No method has been scored yet.</p>"
    warnings = "".join(f"<p>{escape(text)}</p>" for text in list_caveats(report))
    items = "".join(
        f'<li class="{escape(row.verdict.outcome)}"><span class="badge">{escape(row.verdict.outcome)}</span>'
        f"<strong>{escape(row.title)}</strong><p>{escape(write_conclusion(report, row))}</p></li>"
        for row in report.rows
    )
    return (
        f'<div class="notice">{warnings}</div>' if warnings else ""
    ) + f'<ul class="verdicts">{items}</ul><p class="small quiet">{escape(LIMITS[0])}</p>'


def _results(report: Report) -> str:
    if not report.rows:
        return "<p>No method has been scored yet.</p>"
    # the verdict's three columns share one cell beside the method, in view on a narrow page too
    shown = [column for column in build_columns(report) if column.group != VERDICT_GROUP]
    groups = [(name, list(members)) for name, members in groupby(shown, key=lambda column: column.group)]
    heads = "".join(
        f'<th class="group first" colspan="{len(members)}" scope="colgroup">{escape(name)}'
        f"{f'<span class=around>{escape(PAPER_NOTE)}</span>' if name == PAPER_GROUP else ''}</th>"
        for name, members in groups
    )
    flat = [(column, column is members[0]) for _, members in groups for column in members]
    headings = "".join(f'<th scope="col"{_first(first)}>{_heading(column.heading)}</th>' for column, first in flat)
    body = "".join(
        f'<tr><th scope="row">{escape(row.title)}</th>'
        f"{_verdict(row)}{''.join(_cell(column, row, first) for column, first in flat)}</tr>"
        for row in report.rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Results"><table class="results"><thead>'
        f'<tr><th rowspan="2" scope="col">Method</th>'
        f'<th rowspan="2" scope="col" class="first verdict">{escape(VERDICT_GROUP)}</th>{heads}</tr>'
        f"<tr>{headings}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<div class="small quiet">{_bullets([*explain_omitted_columns(report), *explain_table(report)])}'
        f"{_quality(report)}</div>"
    )


def _quality(report: Report) -> str:
    if not report.shadow_quality:
        return ""
    items = "".join(
        f"<li>{_raised(name.replace('_', ' '))}: {escape(format_number(value, 3))}</li>"
        for name, value in sorted(report.shadow_quality.items())
    )
    return (
        "<p>Checks of the attack itself, its strength on what it must be able to see: 1 where it tells all examples "
        f"that the original was trained on from those that it never saw, .5 where it sees nothing:</p><ul>{items}</ul>"
    )


def _raised(text: str) -> str:
    """Escaped, with D^s as it is printed."""
    return escape(text).replace("D^s", "D<sup>s</sup>")


def _heading(text: str) -> str:
    return escape(text).replace(" @ ", "<br>@ ").replace("Flipped ", "Flipped<br>")


def _cell(column: Column, row: Row, first: bool) -> str:
    text = escape(column.cell(row))
    if text.startswith("n/a"):
        return f'<td class="reason{" first" if first else ""}">{text}</td>'
    # the mean stands alone, its interval in a second line
    mean, space, around = text.partition(" ")
    has_interval = bool(space) and around.startswith(("±", "["))
    shown = f'{mean}<span class="around">{around}</span>' if has_interval else text
    return f"<td{_first(first)}>{shown}</td>"


def _verdict(row: Row) -> str:
    verdict = row.verdict
    outcome = escape(verdict.outcome)
    figures = (
        ""
        if verdict.gap is None
        else f"gap {format_gap(verdict.gap)}<br>smallest δ {format_delta(verdict.smallest_delta)}"
    )
    return (
        f'<td class="first verdict {outcome}"><span class="badge">{outcome}</span>'
        f'<span class="around">{figures}</span></td>'
    )


def _first(first: bool) -> str:
    return ' class="first"' if first else ""


def _figures(drawings: list[Drawing], section: str, note: str, *, dense: bool = False) -> str:
    found = [drawing for drawing in drawings if drawing.section == section]
    if not found:
        return "<p>Nothing was recorded.</p>"
    cards = "".join(
        f'<figure aria-label="{escape(drawing.label)}">{inline_svg(drawing)}'
        f"{f'<figcaption>{escape(drawing.caption)}</figcaption>' if drawing.caption else ''}</figure>"
        for drawing in found
    )
    return f'<p class="small quiet">{escape(note)}</p><div class="figures{" dense" if dense else ""}">{cards}</div>'


def _examples(report: Report) -> str:
    """The pictures that the attack is surest of in the original."""
    items = "".join(
        f'<figure><img src="data:image/png;base64,{base64.b64encode(example.png).decode()}" '
        f'alt="forget example {example.id}"><figcaption>#{example.id}, {escape(example.label)}'
        + "".join(
            f"<br>{escape(title)} <b>{escape(format_signed(score, 1))}</b>" for title, score in example.scores.items()
        )
        + "</figcaption></figure>"
        for example in report.examples
    )
    note = (
        "Of the first seed, those that the attack is surest of in the original; the score's sign: + seen, − not seen."
    )
    return f'<p class="small quiet">{note}</p><div class="examples">{items}</div>'


def _forget_files(report: Report) -> str:
    if not report.forget_files:
        return "<p>None.</p>"
    items = "".join(f"<li><code>{escape(name)}</code></li>" for name in report.forget_files)
    note = "Relative to the output folder. Whoever must be rid of the forget data deletes these too."
    return f"<p>{note}</p><ul>{items}</ul>"


def _times(report: Report) -> str:
    titles, means = {row.method: row.title for row in report.rows}, average_seconds(report)
    rows = [
        (
            titles.get(method, method),
            f"{format_seconds(means[method])} s (by seed: {', '.join(map(format_seconds, found.values()))})",
        )
        for method, found in collect_seconds(report).items()
    ]
    return f"<p>T_U, the unlearning alone.</p>{_pairs(rows)}" if rows else "<p>Nothing was recorded.</p>"


def _provenance(report: Report) -> str:
    found = ", ".join(map(str, list_seeds(report))) or "none"
    return (
        f"<p>Audit seeds: {found}.</p>"
        + _details("Config", _flat(report.config))
        + _details("What “auto” was resolved to", _flat(report.resolved))
        + _details("Versions", report.versions.items())
    )


def _details(summary: str, rows: Iterable[tuple[str, str]]) -> str:
    return f"<details><summary>{escape(summary)}</summary>{_pairs(rows)}</details>"


def _pairs(rows: Iterable[tuple[str, str]]) -> str:
    body = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows)
    return f'<div class="scroll"><table class="pairs"><tbody>{body}</tbody></table></div>' if body else "<p>None.</p>"


def _flat(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names."""
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        rows += _flat(value, f"{name}.") if isinstance(value, Mapping) and value else [(name, _text(value))]
    return rows


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == {} else str(value)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>\n"


def _bullets(items: Iterable[str]) -> str:
    lines = "".join(f"<li>{escape(item)}</li>" for item in items)
    return f"<ul>{lines}</ul>" if lines else ""
