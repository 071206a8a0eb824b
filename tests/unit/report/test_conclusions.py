from __future__ import annotations

import dataclasses
import io
import json
import re

import pytest
from rich.console import Console
from synthetic_report import make_report

from ungan_dist.attack.evidence import Interval, Remedies, Report, Row, Verdict
from ungan_dist.attack.verdicts import LOST, NO_LEAK, decide_verdict, judge_rows
from ungan_dist.config.attack import AttackConfig
from ungan_dist.report.conclusions import describe_power, explain_table, list_caveats, write_conclusions
from ungan_dist.report.html import render_page
from ungan_dist.report.markdown import render_markdown
from ungan_dist.report.power import get_delta
from ungan_dist.report.table_json import build_table, to_json
from ungan_dist.report.terminal import build_terminal_table


def _with_gap(report: Report, low: float, high: float, kind: str = "student_t", method: str = "ungan") -> Report:
    gap = Interval(mean=(low + high) / 2, low=low, high=high, level=0.9, kind=kind, per_seed=[0.0])
    rows = [
        dataclasses.replace(row, verdict=decide_verdict(gap, 0.05)) if row.method == method else row
        for row in report.rows
    ]
    return dataclasses.replace(report, rows=_judge(report, rows))


def _judge(report: Report, rows: list[Row]) -> list[Row]:
    return judge_rows(rows, AttackConfig(delta=0.05), num_classes=10, sizes=report.sizes)


@pytest.fixture(scope="module")
def plain() -> Report:
    return make_report(3, methods=("original", "retrain", "ungan"))


@pytest.mark.parametrize(
    ("low", "high", "outcome", "sentence"),
    [
        (-0.0104, 0.0301, "equivalent", "about as well as in the retrained model"),
        (0.0602, 0.0804, "under-forgotten", "still look like training examples"),
        (-0.0804, -0.0602, "over-forgotten", "That is a trace too"),
        (-0.01, 0.06, "inconclusive", "It is not a pass"),
        (-0.46, 0.46, "no power: the interval is too wide", "no size of leak could be told"),
    ],
)
def test_sentence_follows_the_verdict(plain: Report, low: float, high: float, outcome: str, sentence: str) -> None:
    report = _with_gap(plain, low, high)
    [found] = [one for one in write_conclusions(report) if "UnGAN" in one.titles]
    assert (found.outcome, sentence in found.sentence) == (outcome, True)


def test_each_verdict_is_explained_once_with_all_its_rows(plain: Report) -> None:
    report = _with_gap(plain, 0.06, 0.08)
    assert [(one.outcome, one.titles) for one in write_conclusions(report)] == [
        ("under-forgotten", "Original, UnGAN"), ("reference", "Retrain")
    ]  # fmt: skip
    page = render_page(report, [])
    assert page.count("the model remembers too much of them") == 1


def test_the_power_is_stated_with_the_originals_own_gap(plain: Report) -> None:
    original = plain.rows[0]
    assert original.verdict.gap is not None
    text = describe_power(plain)
    assert text.startswith("δ = 0.05. Power: the original's own gap is +0.")
    assert f"interval [+{original.verdict.gap.low:.3f}, +{original.verdict.gap.high:.3f}], beyond δ" in text
    assert " in four of five such runs." in text
    blind = _with_gap(plain, -0.02, 0.02, method="original")
    assert describe_power(blind).startswith("δ = 0.05. Power: none, the original's own gap is 0.000")
    for report in (plain, blind):
        assert " ".join(describe_power(report).split()) in _print(report)
        for text in (render_markdown(report), render_page(report, [])):
            assert describe_power(report).split("δ ≥")[0].split(",")[0].replace("'", "&#39;") in text.replace(
                "'", "&#39;"
            )


def test_without_retrain_the_gap_is_to_one_half() -> None:
    report = make_report(3, methods=("original", "ungan"))
    assert "gaps are measured from .5" in _print(report)


def _print(report: Report) -> str:
    console = Console(width=110, file=io.StringIO())
    console.print(build_terminal_table(report, 110))
    return " ".join(console.file.getvalue().split())  # pyright: ignore[reportAttributeAccessIssue]


def test_unknown_outcome_is_refused(plain: Report) -> None:
    gap = plain.rows[0].verdict.gap
    row = dataclasses.replace(plain.rows[0], verdict=Verdict(outcome="passed", gap=gap, smallest_delta=0.1))
    with pytest.raises(ValueError, match="unknown verdict 'passed' of original"):
        write_conclusions(dataclasses.replace(plain, rows=[row]))


def test_a_blind_attack_comes_first(plain: Report) -> None:
    assert list_caveats(plain) == []
    blind = _with_gap(plain, -0.02, 0.02, method="original")
    caveat = list_caveats(blind)[0]
    assert caveat.startswith("No power: this attack shows no leak in the original")
    assert [row.verdict.outcome for row in blind.rows] == [NO_LEAK, "reference", NO_LEAK]
    assert caveat in render_markdown(blind).replace("\\", "")
    assert caveat in render_page(blind, [])
    assert caveat in _print(blind)
    assert json.loads(to_json(build_table(blind)))["caveats"][0] == caveat


@pytest.mark.parametrize(
    ("remedies", "needed"),
    [
        (Remedies(), "More seeds or more forget examples are needed."),
        (Remedies(forget_list=True), "More seeds or a longer forget list are needed."),
        (Remedies(forget_list=True, more_seeds=False), "A longer forget list is needed."),
    ],
)
def test_a_conclusion_names_an_available_remedy(plain: Report, remedies: Remedies, needed: str) -> None:
    report = dataclasses.replace(_with_gap(plain, -0.01, 0.06), remedies=remedies)
    [found] = [one for one in write_conclusions(report) if one.outcome == "inconclusive"]
    assert needed in found.sentence


def test_a_destroyed_model_says_so_wherever_its_verdict_stands(plain: Report) -> None:
    """Of 320 retain examples, 10 % + 2 standard errors are 13.35 %."""

    def with_retain(accuracy: float) -> Report:
        *others, row = plain.rows
        retain = dataclasses.replace(row.accuracy["retain"], mean=accuracy)
        loss = row.loss["retain"]
        moved = row.accuracy["retain"].mean - accuracy
        loss = dataclasses.replace(loss, mean=moved, low=loss.low + moved, high=loss.high + moved)
        low = dataclasses.replace(row, accuracy=row.accuracy | {"retain": retain}, loss=row.loss | {"retain": loss})
        return dataclasses.replace(plain, rows=_judge(plain, [*others, low]))

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
        assert row["verdict"]["outcome"] == LOST
        assert f"| {LOST} |" in lines[0]
        assert row["loss"]["retain"]["mean"] > 0.8
        assert words in render_markdown(report)
        assert words in render_page(report, [])
        assert "utility lost" in _print(report)
        assert words in _print(report)


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
    assert lines[1].startswith("Intervals of UnGAN: 95 %, over the examples of 1 seed, these models only")


def test_the_margin_comes_from_the_config(plain: Report) -> None:
    assert get_delta(plain) == 0.05
    assert get_delta(dataclasses.replace(plain, config={})) is None
    assert not describe_power(dataclasses.replace(plain, config={})).startswith("δ = ")
