"""The sections of the page about single methods: the conclusion in words, every figure, and each column's value."""

from __future__ import annotations

from typing import NamedTuple

from ungan_dist.attack.evidence import Interval, Report, Row
from ungan_dist.attack.summary import format_outcome
from ungan_dist.attack.utility import TITLES as SET_TITLES
from ungan_dist.attack.verdicts import QUICK, has_power
from ungan_dist.config.attack import ATTACK_NAMES
from ungan_dist.report.cells import (
    build_columns,
    format_gap,
    format_interval,
    format_number,
    format_signed,
    measures_from_half,
    name_accuracies,
    style_of_row,
)
from ungan_dist.report.conclusions import describe_ulira, end_sentence, has_reference, write_failure
from ungan_dist.report.drawing import Drawing, slug
from ungan_dist.report.low_p_values import describe_low_p_values
from ungan_dist.report.power import get_delta


class MethodSection(NamedTuple):
    """One method's section."""

    id: str
    title: str
    outcome: str
    style: str
    sentences: list[str]
    values: list[tuple[str, str]]
    """Heading and text of every column of the table, and the values of single seeds."""
    drawings: list[Drawing]
    attacks: list[AttackLine]
    """What each attack found, the first one's first."""


class AttackLine(NamedTuple):
    """What one attack found on a method."""

    name: str
    auc: str
    gap: str
    corrected: str
    """The gap at the level corrected for the number of attacks."""
    decided: bool


def build_sections(report: Report, drawings: list[Drawing]) -> list[MethodSection]:
    """Build the section of each row, in the order of the table."""
    columns = build_columns(report) if report.rows else []
    sections = [
        MethodSection(
            id=name_section(row.method),
            title=row.title,
            outcome=format_outcome(row),
            style=style_of_row(row),
            sentences=_conclude(report, row),
            values=[
                *((f"{column.group}: {column.heading}", column.cell(row)) for column in columns),
                *_list_klom(row),
                *_list_seeds(report, row),
            ],
            drawings=[drawing for drawing in drawings if drawing.method == row.method],
            attacks=_list_attacks(row),
        )
        for row in report.rows
    ]
    return sections + [
        MethodSection(name_section(row.method), row.title, row.outcome, row.outcome, [write_failure(row)], [], [], [])
        for row in report.failed_rows
    ]


def _list_attacks(row: Row) -> list[AttackLine]:
    decides = row.verdict.gap is not None and has_power(row.verdict.outcome)
    return [
        AttackLine(
            name=ATTACK_NAMES[name],
            auc=" ".join(format_interval(found.auc, 3, bounds=True)),
            gap=_write_gap(found.gap),
            corrected=_write_gap(found.corrected_gap),
            decided=decides and name == row.verdict.attack,
        )
        for name, found in row.attacks.items()
    ]


def _write_gap(gap: Interval | None) -> str:
    if gap is None:
        return "–"
    return f"{format_signed(gap.mean)} {format_gap(gap)} at {100 * gap.level:.4g} %"


def name_section(method: str) -> str:
    """Return the id of a method's section."""
    return f"method-{slug(method)}"


def _conclude(report: Report, row: Row) -> list[str]:
    gap, delta, unlearned = row.verdict.gap, get_delta(report), describe_ulira(row)
    auc = f"The attack's AUC is {format_number(row.auc.mean, 3)}"
    if gap is None:
        of_others = (
            "Gaps are measured from .5" if measures_from_half(report) else "Every other row is compared with this one"
        )
        return [f"{auc}. {of_others}; .5 is expected of it.", *unlearned]
    to = "Retrain's" if has_reference(report) and not measures_from_half(report) else ".5"
    side = "above" if gap.mean >= 0 else "below"
    sentences = [
        f"{auc}, {format_number(abs(gap.mean), 3)} {side} {to}; the {gap.level * 100:.4g} % interval of this gap is "
        f"{format_gap(gap)}."
    ]
    if delta is not None:
        sentences += [_place_interval(row, delta), *_name_deciding_attack(row, delta)]
    if row.loss:
        losses = [
            f"{format_signed(-100 * loss.mean, 1)} points on {SET_TITLES[name]}" for name, loss in row.loss.items()
        ]
        against = "Retrain" if has_reference(report) else "the original"
        sentences.append(f"Accuracy against {against}: {', '.join(losses)} examples.")
    sentences += describe_low_p_values(row)
    return [*sentences, *unlearned, *(end_sentence(text) for text in (row.caveat, row.class_caveat) if text)]


def _place_interval(row: Row, delta: float) -> str:
    gap = row.verdict.gap
    assert gap is not None
    if row.verdict.outcome == QUICK:
        return f"There is no verdict at δ = {delta:g}, because quick attacks alone cannot give one."
    if not has_power(row.verdict.outcome):
        return f"There is no verdict at δ = {delta:g}, because this audit has no power."
    if -delta < gap.low and gap.high < delta:
        return f"The interval lies inside (−δ, δ) with δ = {delta:g}."
    if gap.low >= delta or gap.high <= -delta:
        return f"The whole interval lies outside (−δ, δ) with δ = {delta:g}."
    return f"The interval lies partly inside and partly outside (−δ, δ) with δ = {delta:g}."


def _name_deciding_attack(row: Row, delta: float) -> list[str]:
    """Name the attack that decided, where the interval of the first does not explain the verdict."""
    gap, decided = row.verdict.gap, row.attacks.get(row.verdict.attack)
    if gap is None or decided is None or len(row.attacks) < 2 or not has_power(row.verdict.outcome):
        return []
    if row.verdict.attack == row.first_attack and -delta < gap.high and gap.low < delta:
        return []
    corrected = decided.corrected_gap
    level = "" if corrected is None else f", and {format_gap(corrected)} at {100 * corrected.level:.4g} %"
    return [
        f"{ATTACK_NAMES[row.verdict.attack]} decides among {len(row.attacks)} attacks. The interval of its gap is "
        f"{format_gap(decided.gap)} at {100 * gap.level:.4g} %{level}, the level corrected for their number."
    ]


def _list_klom(row: Row) -> list[tuple[str, str]]:
    if row.klom is None:
        return []
    if isinstance(row.klom, str):
        return [("KLOM", row.klom)]
    high, mean = (format_number(sum(one) / len(one), 2) for one in (row.klom.percentile_95, row.klom.mean))
    return [("KLOM, 95th percentile over the forget set", f"{high} nats, mean {mean}, {row.klom.num_models} models")]


def _list_seeds(report: Report, row: Row) -> list[tuple[str, str]]:
    if len(row.auc.per_seed) < 2:
        return []
    names = {"unseen": "D_u", "test_forgotten": "Forgotten classes, test", **name_accuracies(report)}
    found = [("AUC (b) of each seed", row.auc)]
    found += [
        (f"{names.get(name, name.replace('_', ' ').capitalize())}: accuracy of each seed", interval)
        for name, interval in row.accuracy.items()
    ]
    return [(name, ", ".join(format_number(value, 3) for value in interval.per_seed)) for name, interval in found]
