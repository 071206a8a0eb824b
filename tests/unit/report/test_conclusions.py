from __future__ import annotations

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console
from synthetic_report import make_report

from ungan_dist.attack.evidence import AttackResult, Evidence, Interval, Remedies, Report, Row, Verdict
from ungan_dist.attack.flat import flatten_rows
from ungan_dist.attack.score import score_rows
from ungan_dist.attack.verdicts import LOST, NO_LEAK, combine_attacks, decide_verdict, judge_rows
from ungan_dist.config.attack import AttackConfig
from ungan_dist.report.conclusions import list_caveats, write_conclusions
from ungan_dist.report.explanations import explain_table
from ungan_dist.report.html import render_page
from ungan_dist.report.markdown import render_markdown
from ungan_dist.report.method_sections import build_sections
from ungan_dist.report.power import describe_power, describe_smallest_delta, get_delta
from ungan_dist.report.table_json import build_table, to_json
from ungan_dist.report.terminal import build_terminal_table


def _with_gap(report: Report, low: float, high: float, kind: str = "student_t", method: str = "ungan") -> Report:
    gap = Interval(mean=(low + high) / 2, low=low, high=high, level=0.9, kind=kind, per_seed=[0.0])
    rows = [
        dataclasses.replace(row, verdict=decide_verdict(gap, 0.05), attacks={}) if row.method == method else row
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
    clearest = max(
        (one.corrected_gap for one in original.attacks.values() if one.corrected_gap), key=lambda gap: gap.low
    )
    text = describe_power(plain)
    assert text.startswith("δ = 0.05. Power: the original's own gap is +0.")
    assert f"interval [+{clearest.low:.3f}, +{clearest.high:.3f}], beyond δ" in text
    assert text.count(describe_smallest_delta(plain.smallest_delta or 0, 0.05, 3)) == 1
    blind = _with_gap(plain, -0.02, 0.02, method="original")
    assert describe_power(blind).startswith("δ = 0.05. Power: none, the original's own gap is 0.000")
    for report in (plain, blind):
        assert " ".join(describe_power(report).split()) in _print(report)
        for text in (render_markdown(report), render_page(report, [])):
            assert describe_power(report).split(",")[0].replace("'", "&#39;") in text.replace("'", "&#39;")


@pytest.fixture(scope="module")
def seen_by_loss() -> Report:
    """A leak that the attack by loss sees, and LiRA does not."""
    plain = make_report(3, methods=("original", "retrain", "ungan"))
    evidence: list[Evidence] = []
    for item in plain.evidence:
        scores = np.random.default_rng([item.seed, len(item.method)]).normal(size=(2, len(item.scores)))
        scores[1, item.forget] += 0.0 if item.method == "retrain" else 3.0
        evidence.append(dataclasses.replace(item, scores=scores[0], further_scores={"loss": scores[1]}))
    rows = score_rows(evidence, AttackConfig(delta=0.05, num_resamples=100), num_test=297)
    return dataclasses.replace(plain, evidence=evidence, rows=_judge(plain, rows))


def test_the_power_names_the_attack_that_sees_the_leak(seen_by_loss: Report) -> None:
    original = seen_by_loss.rows[0]
    assert (original.verdict.outcome, original.verdict.attack) == ("under-forgotten", "loss")
    interval = original.attacks["loss"].corrected_gap
    assert interval is not None
    assert interval.low > 0.05
    assert (
        f"Power: the original's own gap for loss is +{interval.mean:.3f}, 95 % interval "
        f"[+{interval.low:.3f}, +{interval.high:.3f}], beyond δ" in describe_power(seen_by_loss)
    )


def test_no_power_is_explained_by_the_corrected_interval(plain: Report) -> None:
    """LiRA's 90 % interval lies beyond δ, its corrected one does not."""
    gaps = [Interval(mean=0.08, low=low, high=0.1, level=level, kind="student_t", per_seed=[0.08]) for low, level in
            ((0.06, 0.9), (0.04, 0.95))]  # fmt: skip
    attacks = {
        name: AttackResult(auc=plain.rows[0].auc, gap=gaps[0], corrected_gap=gaps[1]) for name in ("lira", "loss")
    }
    original = dataclasses.replace(plain.rows[0], attacks=attacks, verdict=combine_attacks(attacks, 0.05))
    report = dataclasses.replace(plain, rows=_judge(plain, [original, *plain.rows[1:]]))
    assert report.rows[0].verdict.outcome == NO_LEAK
    assert "Power: none, the original's own gap is +0.080, 95 % interval [+0.040, +0.100]" in describe_power(report)
    [section] = [one for one in build_sections(report, []) if one.title == "Original"]
    assert not any("decides" in sentence for sentence in section.sentences)


def test_a_methods_section_and_the_flat_table_name_the_attack_that_decided(seen_by_loss: Report, plain: Report) -> None:
    row = seen_by_loss.rows[2]
    gap = row.attacks["loss"].gap
    assert gap is not None
    sentences = " ".join(build_sections(seen_by_loss, [])[2].sentences)
    assert f"loss decides among 2 attacks. The interval of its gap is [+{gap.low:.3f}, +{gap.high:.3f}]" in sentences
    record = flatten_rows(seen_by_loss)[2]
    assert (record["decided_by"], record["gap_loss_low"], record["auc_loss"]) == (
        "loss", gap.low, row.attacks["loss"].auc.mean
    )  # fmt: skip
    assert record["smallest_delta"] == gap.high
    alone = dataclasses.replace(plain, rows=[dataclasses.replace(row, attacks={}) for row in plain.rows])
    assert "decided_by" not in flatten_rows(alone)[0], "an earlier report has LiRA alone"


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
    assert caveat.startswith("No power: no attack shows a leak in the original")
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
