"""``ungan-dist compare``: one table and one figure over runs, paired where they share seeds and shadow models."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from in_process import InProcess, assert_refused, run_command
from scipy.stats import t
from small_audit import small_config
from synthetic_report import make_report

from ungan_dist.attack.compare import Audited, compare_with_first
from ungan_dist.attack.evidence import Evidence, Interval
from ungan_dist.config.attack import ATTACKS
from ungan_dist.config.methods import UnGANConfig
from ungan_dist.runs.pipeline import audit


def test_two_runs_on_one_fleet_are_paired(output: Path, without_figures: None) -> None:
    config = small_config(output)
    audit(
        dataclasses.replace(
            config,
            ungan=dataclasses.replace(UnGANConfig(), epochs=2, critic_widths=(8, 8, 8)),
            execution=dataclasses.replace(config.execution, run_name="second"),
        ),
        run_units=InProcess(),
    )
    figure = output / "figures/gaps.svg"
    done = run_command("compare", output / "run", output / "second", "--format", "csv", "--figure", figure)
    assert done.returncode == 0, done.stderr
    lines = list(csv.DictReader(io.StringIO(done.stdout)))
    tables = {name: json.loads((output / name / "table.json").read_text()) for name in ("run", "second")}
    assert [(line["title"], line["run"]) for line in lines] == [
        (row["title"], name) for row in tables["run"]["rows"] for name in ("run", "second")
    ]
    for line in lines:
        rows = {name: next(row for row in table["rows"] if row["title"] == line["title"])
                for name, table in tables.items()}  # fmt: skip
        assert line["verdict"] == rows[line["run"]]["verdict"]["outcome"]
        assert line["paired"] == ("first" if line["run"] == "run" else "yes")
        for name in ATTACKS:
            aucs = {run: row["attacks"][name]["auc"] for run, row in rows.items()}
            for end, bound in (("", "mean"), ("_low", "low"), ("_high", "high")):
                assert float(line[f"auc_{name}{end}"]) == pytest.approx(aucs[line["run"]][bound], abs=1e-6)
            found, expected = line[f"difference_{name}"], aucs["second"]["mean"] - aucs["run"]["mean"]
            assert bool(found) == (line["run"] == "second")
            assert not found or float(found) == pytest.approx(expected, abs=2e-6)
            if line["title"] == "Original" and found:  # the same original, so not a bit of its AUC differs
                assert float(found) == 0
    markdown = run_command("compare", output / "run", output / "second").stdout.splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in markdown}) == 1
    heads = [head.strip() for head in markdown[0].strip("|").split("|")]
    assert [head for head in heads if head.startswith("AUC, ")] == [f"AUC, {name}" for name in ATTACKS.values()]
    texts = "".join(ElementTree.fromstring(figure.read_bytes()).itertext())
    assert all(name in texts for name in ("run", "second", "UnGAN"))
    latex = run_command("compare", output / "run", output / "second", "--format", "latex").stdout
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 1


class Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_quick_audit_keeps_the_columns_and_is_named(
    finished_run: Path, tmp_path: Path, without_figures: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_config(tmp_path, methods=("original", "retrain"))
    quick = dataclasses.replace(
        small,
        attack=dataclasses.replace(small.attack, quick=True),
        execution=dataclasses.replace(small.execution, run_name="fast"),
    )
    audit(quick, run_units=InProcess())
    pair = ("compare", finished_run / "run", tmp_path / "fast")
    markdown = run_command(*pair).stdout.splitlines()
    heads = [head.strip() for head in markdown[0].split("|")]
    assert heads.index("AUC, LiRA") < heads.index("AUC, RMIA") < heads.index("AUC, loss")
    assert markdown[-2:][1].startswith("fast is a quick audit, without shadow models")
    flat = run_command(*pair, "--format", "csv")
    assert "note: fast is a quick audit" in flat.stderr
    lines = list(csv.DictReader(io.StringIO(flat.stdout)))
    assert {line["run"]: bool(line["auc_lira"]) for line in lines} == {"run": True, "fast": False}
    assert all(line["auc_loss"] for line in lines)
    monkeypatch.setattr("in_process.io", SimpleNamespace(StringIO=Terminal))
    shown = re.sub(r"\x1b\[[\d;]*m", "", run_command(*pair).stdout)
    assert "fast is a quick audit" in " ".join(shown.split())
    assert "Minus the first run" in shown
    assert "|" not in shown
    assert max(map(len, shown.splitlines())) <= 150


def test_a_name_of_a_run_is_no_formula(output: Path, without_figures: None) -> None:
    other = shutil.copytree(output / "run", output / '=HYPERLINK("x")')
    done = run_command("compare", output / "run", other, "--format", "csv")
    names = [line["run"] for line in csv.DictReader(io.StringIO(done.stdout))]
    assert set(names) == {"run", '\'=HYPERLINK("x")'}


@pytest.mark.parametrize("attack", ["lira", "loss"])
def test_the_difference_has_the_variance_of_paired_examples(attack: str) -> None:
    reports = [make_report(1, methods=("original", "retrain", "ungan")) for _ in range(2)]
    reports[1] = dataclasses.replace(
        reports[1], evidence=[dataclasses.replace(e, scores=e.scores**3) for e in reports[1].evidence]
    )
    rng = np.random.default_rng(1)
    moved: list[Evidence] = []
    for e in reports[1].evidence:
        scores = e.scores + rng.normal(size=len(e.scores))
        moved.append(dataclasses.replace(e, scores=scores, further_scores={"loss": scores[::-1].copy()}))
    reports[1] = dataclasses.replace(reports[1], evidence=moved)
    runs = [Audited(name=str(number), report=report, fleet="one") for number, report in enumerate(reports)]
    [found] = compare_with_first(runs, "ungan", attack)
    assert isinstance(found, Interval)
    placements = []
    for report in reports:
        [item] = [e for e in report.evidence if e.method == "ungan"]
        scores = item.scores if attack == "lira" else item.further_scores["loss"]
        wins = scores[item.forget][:, None] > scores[item.non_members]
        placements.append((wins.mean(1), wins.mean(0)))
    forget, rest = (second - first for first, second in zip(*placements, strict=True))
    assert found.mean == pytest.approx(forget.mean())
    parts = [(values.var(ddof=1) / len(values), len(values) - 1) for values in (forget, rest)]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    assert (found.high - found.low) / 2 == pytest.approx(t.ppf(0.95, freedom) * np.sqrt(variance))


def test_runs_that_share_too_little_are_not_paired() -> None:
    first, other = (make_report(1, methods=("original", "retrain")) for _ in range(2))
    runs = [Audited(name="a", report=first, fleet=1), Audited(name="b", report=other, fleet=2)]
    assert compare_with_first(runs, "original") == ["other shadow models"]
    runs[1] = dataclasses.replace(runs[1], report=dataclasses.replace(other, data_hash="else"))
    assert compare_with_first(runs, "original") == ["other data"]
    assert compare_with_first(runs, "ungan") == [None]
    swapped = [dataclasses.replace(e, forget=e.non_members, non_members=e.forget) for e in other.evidence]
    runs[1] = Audited(name="b", report=dataclasses.replace(other, evidence=swapped), fleet=1)
    assert compare_with_first(runs, "original") == ["no common seed with the same sets"]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    assert_refused(run_command("compare", tmp_path), "two runs")
    assert_refused(run_command("compare", tmp_path, tmp_path, "--figure", "x.gif"), ".svg")
    assert_refused(run_command("compare", tmp_path, tmp_path), "twice")
    assert_refused(run_command("compare", tmp_path, "s3://bucket/run"), str(tmp_path))
