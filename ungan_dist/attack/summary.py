"""A report in one line, and as a table for notebooks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.config.attack import ATTACK_NAMES
from ungan_dist.config.methods import is_method

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Interval, Report, Row

LOST = "equivalent, utility lost"
CLASS_DIFFERS = "equivalent, class accuracy differs"
"""Of audits of whole classes: members cannot be told, but the model knows the class otherwise than Retrain."""
HIDDEN_LEAK = "but U-LiRA finds a leak"
"""Stands behind every verdict of a method whose leak only U-LiRA finds."""
_HEADINGS = ("Method", "Retain %", "Forget %", "Test %", "Attack AUC", "Gap to the reference", "Verdict")
"""Of a notebook's table. If whole classes are forgotten, the test accuracy is that of the other classes."""


def summarise(report: Report) -> str:
    """Return the run, its state, its verdicts and its folder in one line."""
    verdicts = ", ".join(f"{count} {outcome}" for outcome, count in count_verdicts(report).items())
    where = f"; {_shorten(report.folder)}" if report.folder is not None else ""
    rows = f"{len(report.rows) + len(report.failed_rows)} rows" + (f" ({verdicts})" if verdicts else "")
    return f"<Report of {report.title}, run {report.run_hash[:8]}: {report.status}, {rows}{where}>"


def _shorten(folder: Path) -> Path:
    """Return a folder relative to the current one, if it lies in it."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def count_verdicts(report: Report) -> dict[str, int]:
    """Count the verdicts of unlearning methods, the most common first: not of Original, Retrain or controls."""
    outcomes = [(row.method, mark_hidden_leak(row, row.verdict.outcome)) for row in report.rows]
    outcomes += [(row.method, row.outcome) for row in report.failed_rows]
    return dict(Counter(outcome for method, outcome in outcomes if is_method(method)).most_common())


def to_html(report: Report) -> str:
    """Return the rows as an HTML table."""
    lines = "".join(f"<tr>{''.join(_cells(row))}</tr>" for row in report.rows)
    for row in report.failed_rows:
        reason = f"<td colspan='{len(_HEADINGS) - 2}'>{escape(row.reason)}</td>"
        lines += f"<tr><th>{escape(row.title)}</th>{reason}<td>{escape(row.outcome)}</td></tr>"
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    return (
        f"<p>{escape(summarise(report)[1:-1])}</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        f"<p>Intervals are of 95 %, those of gaps of {format_gap_level(report)}.</p>"
        + "".join(f"<p>{escape(text)}</p>" for row in report.rows for text in (row.hidden_leak, row.caveat) if text)
    )


def get_gap_level(report: Report) -> float:
    """Return the level of the gaps' intervals: 90 %, or more in a look of several."""
    return next((row.verdict.gap.level for row in report.rows if row.verdict.gap is not None), 0.90)


def format_gap_level(report: Report) -> str:
    """Format the level of the gaps' intervals."""
    return f"{100 * get_gap_level(report):.4g} %"


def format_outcome(row: Row) -> str:
    """Write the verdict, with a mark if it is that of a model that does not work."""
    outcome = row.verdict.outcome
    works = not row.utility or outcome == LOST
    return mark_hidden_leak(row, outcome if works else f"{outcome} ({row.utility})")


def mark_hidden_leak(row: Row, outcome: str) -> str:
    """Return a row's outcome, with the mark of a leak that only U-LiRA finds."""
    return f"{outcome}, {HIDDEN_LEAK}" if row.hidden_leak else outcome


def row_to_html(row: Row) -> str:
    """Return one row as an HTML table, with what each attack found and what a verdict leaves unsaid."""
    head = "".join(f"<th>{heading}</th>" for heading in _HEADINGS)
    found = "".join(
        f"<tr><th>{escape(ATTACK_NAMES.get(name, name))}</th><td>{_write(one.auc)}</td>"
        f"<td>{_write(one.gap, sign='+')}</td></tr>"
        for name, one in row.attacks.items()
    )
    attacks = f"<table><thead><tr><th>Attack</th><th>AUC</th><th>Gap to the reference</th></tr></thead><tbody>{found}"
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody><tr>{''.join(_cells(row))}</tr></tbody></table>"
        + (f"{attacks}</tbody></table>" if found else "")
        + "".join(f"<p>{escape(text)}</p>" for text in (row.hidden_leak, row.caveat) if text)
    )


def _cells(row: Row) -> Iterator[str]:
    yield f"<th>{escape(row.title)}</th>"
    for name in ("retain", "forget", "test_others" if "test_others" in row.accuracy else "test"):
        yield f"<td>{_write(row.accuracy.get(name), scale=100, digits=1)}</td>"
    yield f"<td>{_write(row.auc)}</td>"
    yield f"<td>{_write(row.verdict.gap, sign='+')}</td>"
    yield f"<td>{escape(format_outcome(row))}</td>"


def style_of(outcome: str) -> str:
    """Return the style of a verdict: its name, without the reasons that follow it."""
    if outcome.endswith(HIDDEN_LEAK):
        return "hidden-leak"
    return "utility-lost" if outcome in (LOST, CLASS_DIFFERS) else "no-power" if not has_power(outcome) else outcome


def has_power(outcome: str) -> bool:
    """Return whether an outcome states more than that the audit has no power, or that quick attacks decide nothing."""
    return not outcome.startswith(("no power", "no verdict"))


def style_of_row(row: Row) -> str:
    """Return the style of a row's verdict, which a hidden leak replaces."""
    return "hidden-leak" if row.hidden_leak else style_of(row.verdict.outcome)


def get_delta(report: Report) -> float | None:
    """Return δ, the equivalence margin of the run's config, or None if the config has none."""
    return read_attack_option(report, "delta")


def read_attack_option(report: Report, name: str) -> float | None:
    """Read a number of the attack's config; None if the config does not have it."""
    value: object = report.config
    for part in ("identity", "attack", name):
        value = value.get(part) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) else None


def _write(interval: Interval | None, *, scale: float = 1, digits: int = 3, sign: str = "") -> str:
    if interval is None:
        return "–"
    mean, low, high = (f"{scale * value:{sign}.{digits}f}" for value in (interval.mean, interval.low, interval.high))
    return f"{mean} [{low}, {high}]"


def collect_seconds(report: Report) -> dict[str, dict[int, float]]:
    """Collect T_U by method, then by seed in increasing order, mean over the unlearnings of its original.

    A model unlearned elsewhere has none.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for evidence in sorted(report.evidence, key=lambda evidence: evidence.seed):
        if evidence.method != "unlearned":
            seeds = found.setdefault(evidence.method, {})
            seeds.setdefault(evidence.seed, []).append(evidence.unlearning_seconds)
    return {method: {seed: sum(some) / len(some) for seed, some in seeds.items()} for method, seeds in found.items()}


def average_seconds(report: Report) -> dict[str, float]:
    """Average T_U over the seeds, by method."""
    return {method: sum(found.values()) / len(found) for method, found in collect_seconds(report).items()}
