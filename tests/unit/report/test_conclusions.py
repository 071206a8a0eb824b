from __future__ import annotations

import dataclasses
import io
import json
import re

import pytest
from rich.console import Console
from synthetic_report import make_report

from ungan_dist.attack.evidence import Interval, Remedies, Report, Verdict
from ungan_dist.attack.intervals import decide_verdict
from ungan_dist.attack.utility import add_caveats
from ungan_dist.report.conclusions import explain_table, get_delta, list_caveats, write_conclusion
from ungan_dist.report.html import render_page
from ungan_dist.report.markdown import render_markdown
from ungan_dist.report.table_json import build_table, to_json
from ungan_dist.report.terminal import build_terminal_table


def _with_gap(report: Report, low: float, high: float, kind: str = "student_t", method: str = "ungan") -> Report:
    gap = Interval(mean=(low + high) / 2, low=low, high=high, level=0.9, kind=kind, per_seed=[0.0])
    rows = [
        dataclasses.replace(row, verdict=decide_verdict(gap, 0.05)) if row.method == method else row
        for row in report.rows
    ]
    return dataclasses.replace(report, rows=rows)


@pytest.fixture(scope="module")
def plain() -> Report:
    return make_report(3, methods=("original", "retrain", "ungan"))


@pytest.mark.parametrize(
    ("low", "high", "begins", "smallest"),
    [
        (-0.0104, 0.0301, "Equivalent within δ = 0.05", "0.031"),
        (0.0602, 0.0804, "Under-forgotten", "0.081"),
        (-0.0804, -0.0602, "Over-forgotten", "0.081"),
        (-0.01, 0.06, "Inconclusive, which is no pass", "0.061"),
        (-0.2, 0.2, "Inconclusive, which is no pass", "0.201"),
    ],
)
def test_sentence_follows_the_verdict(plain: Report, low: float, high: float, begins: str, smallest: str) -> None:
    report = _with_gap(plain, low, high)
    sentence = write_conclusion(report, report.rows[-1])
    assert sentence.startswith(begins)
    assert f"smallest δ it could have passed is {smallest}" in sentence
    assert f"AUC {report.rows[-1].auc.mean:.3f}" in sentence
    assert "gap to Retrain" in sentence
    assert "these models only" not in sentence
    assert ("quivalent" in sentence) == (begins.startswith("Equivalent"))


def test_smallest_delta_as_printed_would_have_passed(plain: Report) -> None:
    for high in (0.0299, 0.03, 0.0301, 0.0305):
        report = _with_gap(plain, -0.01, high)
        sentence = write_conclusion(report, report.rows[-1])
        printed = float(sentence.split("have passed is ")[1].rstrip(").").split(")")[0])
        gap = report.rows[-1].verdict.gap
        assert decide_verdict(gap, printed).outcome == "equivalent"
        assert printed <= high + 0.00101


def test_few_seeds_limit_the_conclusion_to_these_models(plain: Report) -> None:
    report = _with_gap(plain, -0.01, 0.01, kind="bootstrap")
    assert write_conclusion(report, report.rows[-1]).endswith(
        "This holds for these models only, not for another training."
    )


def test_the_reference_has_no_conclusion(plain: Report) -> None:
    sentence = write_conclusion(plain, plain.rows[1])
    assert sentence.startswith("The reference")
    assert "quivalent" not in sentence


def test_without_retrain_the_gap_is_to_one_half() -> None:
    report = make_report(3, methods=("original", "ungan"))
    assert "gap to .5 (Retrain is not in this report)" in write_conclusion(report, report.rows[1])
    assert "gaps are measured from .5" in _print(report)


def _print(report: Report) -> str:
    console = Console(width=110, file=io.StringIO())
    console.print(build_terminal_table(report, 110))
    return " ".join(console.file.getvalue().split())  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("num_forget", "num_seeds", "warned"), [(1, 1, True), (9, 2, True), (10, 1, False), (1, 3, False)]
)
def test_a_bootstrap_over_few_forget_examples_is_no_verdict(num_forget: int, num_seeds: int, warned: bool) -> None:
    report = make_report(num_seeds, methods=("original", "retrain"), num_forget=num_forget)
    examples = "1 forget example," if num_forget == 1 else f"{num_forget} forget examples,"
    for text in (_print(report), render_markdown(report), list_caveats(report)[0] if warned else ""):
        assert ("no verdict here is reliable" in text) == (f"With {examples}" in text) == warned
    assert "gaps are measured from .5" not in _print(report)


def test_unknown_outcome_is_refused(plain: Report) -> None:
    gap = plain.rows[0].verdict.gap
    row = dataclasses.replace(plain.rows[0], verdict=Verdict(outcome="passed", gap=gap, smallest_delta=0.1))
    with pytest.raises(ValueError, match="unknown verdict 'passed' of original"):
        write_conclusion(plain, row)


def test_a_blind_attack_comes_first(plain: Report) -> None:
    assert list_caveats(plain) == []
    blind = _with_gap(plain, -0.02, 0.02, method="original")
    assert list_caveats(blind)[0].startswith("This attack does not detect the forget set even in the original")
    assert list_caveats(blind)[0] in render_markdown(blind)


@pytest.mark.parametrize(
    ("remedies", "needed"),
    [
        (Remedies(), "More seeds or more forget examples are needed ("),
        (Remedies(forget_list=True), "More seeds or a longer forget list are needed ("),
        (Remedies(forget_list=True, more_seeds=False), "A longer forget list is needed ("),
    ],
)
def test_a_conclusion_names_an_available_remedy(plain: Report, remedies: Remedies, needed: str) -> None:
    report = dataclasses.replace(_with_gap(plain, -0.01, 0.06), remedies=remedies)
    assert needed in write_conclusion(report, report.rows[-1])


def test_a_destroyed_model_says_so_wherever_its_verdict_stands(plain: Report) -> None:
    """Of 320 retain examples, 10 % + 2 standard errors are 13.35 %."""

    def with_retain(accuracy: float) -> Report:
        *others, row = plain.rows
        retain = dataclasses.replace(row.accuracy["retain"], mean=accuracy)
        low = dataclasses.replace(row, accuracy=row.accuracy | {"retain": retain})
        return dataclasses.replace(plain, rows=add_caveats([*others, low], num_classes=10, sizes=plain.sizes))

    assert plain.sizes["retain"] == 320
    assert list_caveats(with_retain(0.96)) == []
    [message] = list_caveats(with_retain(0.133))
    assert message.startswith(
        "UnGAN classifies 13.3 % of retain examples correctly, which is no better than chance (10.0 %). Its verdict "
        "does not apply to a working model."
    )
    assert "class order" in message
    for accuracy, mark, words in (
        (
            0.134,
            "utility lost",
            "lost its utility: it classifies 13.4 % of retain examples correctly, Retrain",
        ),
        (0.133, "at chance", "no better than chance"),
    ):
        report = with_retain(accuracy)
        row = json.loads(to_json(build_table(report)))["rows"][-1]
        assert row["utility"] == mark
        assert words in row["caveat"]
        lines = [line for line in render_markdown(report).splitlines() if line.startswith("| UnGAN")]
        assert f"({mark})" in lines[0]
        assert words in render_markdown(report)
        assert words in render_page(report, [])
        console = Console(width=110, file=io.StringIO())
        console.print(build_terminal_table(report, 110))
        printed = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
        assert mark in printed
        assert words in " ".join(printed.split())


def test_sets_have_the_names_of_the_glossary(plain: Report) -> None:
    for text in (render_markdown(plain), render_page(plain, [])):
        words = " ".join(re.sub("<[^>]*>", " ", text).split())
        assert "non-members 400" in words
        assert "shadow models 64" in words
        assert "shadow pool" not in words
    assert build_table(plain)["sizes"]["shadow_pool"] == 400


def test_one_seed_cannot_rank() -> None:
    assert any(text.startswith("One seed cannot rank") for text in list_caveats(make_report(1, methods=("original",))))


def test_rows_of_different_seeds_each_name_their_interval(plain: Report) -> None:
    assert sum(line.startswith("Intervals") for line in explain_table(plain)) == 1
    single = make_report(1, methods=("ungan",))
    mixed = dataclasses.replace(plain, rows=[*plain.rows[:2], *single.rows])
    lines = [line for line in explain_table(mixed) if line.startswith("Intervals")]
    assert lines[0].startswith("Intervals of Original, Retrain: 95 %, Student's t over 3 seeds")
    assert lines[1].startswith("Intervals of UnGAN: 95 %, bootstrap over the examples of 1 seed, these models only")


def test_the_margin_comes_from_the_config(plain: Report) -> None:
    assert get_delta(plain) == 0.05
    assert get_delta(dataclasses.replace(plain, config={})) is None
    assert "δ = " not in write_conclusion(dataclasses.replace(plain, config={}), plain.rows[0])
