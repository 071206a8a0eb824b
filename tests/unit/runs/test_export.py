"""``ungan-dist export``: the table in other formats, and the records of single examples."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import stat
from pathlib import Path

import numpy as np
import pandas
import pytest
from in_process import assert_refused, run_command
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from synthetic_report import make_report

from ungan_dist.report.export import export_table
from ungan_dist.runs.plan import reopen_plan
from ungan_dist.runs.record import read_run

pytestmark = pytest.mark.usefixtures("without_figures")


def exported(run: Path, *options: str | Path) -> str:
    done = run_command("export", run, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_csv_has_the_numbers_of_the_table(finished_run: Path, tmp_path: Path) -> None:
    run = finished_run / "run"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    found = list(csv.DictReader(io.StringIO(exported(run))))
    table = json.loads((run / "table.json").read_text())
    assert [row["method"] for row in found] == [row["method"] for row in table["rows"]]
    for got, row in zip(found, table["rows"], strict=True):
        assert got["verdict"] == row["verdict"]["outcome"]
        for name, cell in (
            ("auc", row["auc"]),
            ("accuracy_test", row["accuracy"]["test"]),
            ("gap", row["verdict"]["gap"]),
        ):
            for suffix, bound in (("", "mean"), ("_low", "low"), ("_high", "high")):
                expected = "" if cell is None else pytest.approx(cell[bound], abs=1e-6)
                assert (got[name + suffix] and float(got[name + suffix])) == expected
        # too few examples for this rate: an empty cell
        assert got["tpr_at_fpr_0.001"] == ""
    output = tmp_path / "some/table.parquet"
    exported(run, "--format", "parquet", "--output", output)
    read = pandas.read_parquet(output)
    assert read["auc"].tolist() == [float(row["auc"]) for row in found]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_no_text_of_a_csv_is_a_formula() -> None:
    report = make_report(1, methods=("original", "retrain"))
    names = ['=cmd|"/C calc"!A0', "@SUM(1)", "+1+cmd", "-2+3", "\t=1", "\r=1", "plain", "-0.5"]
    rows = [dataclasses.replace(report.rows[0], title=name, caveat=name) for name in names]
    found = list(csv.DictReader(io.StringIO(export_table(dataclasses.replace(report, rows=rows), "csv").decode(), "")))
    assert [row["title"] for row in found] == [*(f"'{name}" for name in names[:5]), "' =1", *names[6:]]
    assert [row["caveat"] for row in found] == [*(f"'{name.strip()}" for name in names[:6]), *names[6:]]
    assert all(float(row["gap"]) == report.rows[0].verdict.gap.mean for row in found)
    below = dataclasses.replace(report.rows[0], auc=dataclasses.replace(report.rows[0].auc, mean=-0.25))
    [row] = csv.DictReader(io.StringIO(export_table(dataclasses.replace(report, rows=[below]), "csv").decode()))
    assert row["auc"] == "-0.25", "a number stays a number"


def test_markdown_and_latex_have_the_texts_of_the_report(finished_run: Path) -> None:
    run = finished_run / "run"
    markdown = exported(run, "--format", "markdown")
    assert markdown.strip() in (run / "table.md").read_text()
    [begin, top, head, middle, *rows, bottom, end] = exported(run, "--format", "latex").strip().splitlines()
    assert (top, middle, bottom, end) == ("\\toprule", "\\midrule", "\\bottomrule", "\\end{tabular}")
    count = len(re.findall(r"(?<!\\)&", head))
    assert len(set(head.split(" & "))) == count + 1
    assert begin == f"\\begin{{tabular}}{{l{'r' * count}}}"
    assert [row.split(" & ")[0] for row in rows] == ["Original", "Retrain", "UnGAN"]
    for row in rows:
        assert row.endswith("\\\\")
        assert len(re.findall(r"(?<!\\)&", row)) == count
        assert not re.search(r"(?<!\\)%|−|±|δ|≥", row)


def test_a_report_becomes_a_data_frame(finished_run: Path) -> None:
    from ungan_dist.commands.export import read_report

    found = read_report(finished_run / "run").to_dataframe()
    assert found.set_index("method").loc["ungan", "title"] == "UnGAN"
    assert found["auc"].between(0, 1).all()
    assert found["seconds"].notna().all()


def test_records_are_what_the_arrays_say(output: Path) -> None:
    run = output / "run"
    printed = exported(run, "--records")
    path = run / "records.parquet"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = pandas.read_parquet(path)
    plan = reopen_plan(read_run(run))
    shadows = np.concatenate([np.load(output / unit.log_odds_file) for unit in plan.shadows]).astype(float).mean(2)
    assert len(found) == 3 * len(plan.split.pool)
    [unit] = [unit for unit in plan.targets if unit.method == "ungan"]
    rows = found[found["method"] == "ungan"].set_index("example").loc[plan.split.pool]
    target = np.load(run / "log_odds/0/ungan.npy").astype(float).mean(1)
    np.testing.assert_allclose(rows["log_odds"], target, rtol=1e-12)
    for name, positions in (
        ("forget", unit.draw.forget),
        ("retain", unit.draw.retain),
        ("non-member", unit.draw.non_members),
    ):
        assert set(rows["set"].iloc[positions]) == {name}
    for position in (0, 17, 399):
        row, is_in = rows.iloc[position], plan.membership[:, position]
        for group, chosen in (("in", is_in), ("out", ~is_in)):
            values = shadows[chosen, position]
            assert row[f"{group}_models"] == len(values)
            assert row[f"{group}_mean"] == pytest.approx(values.mean())
            assert row[f"{group}_std"] == pytest.approx(values.std(ddof=1))
        assert row["label"] == plan.source.labels[plan.split.pool[position]]
    assert found["leave_one_out"].isna().all(), "two models are too few to score a third"
    forgotten = rows[rows["set"] == "forget"].sort_values("score", ascending=False, kind="stable").index
    least, most = ([str(example) for example in some] for some in (forgotten[:5], forgotten[::-1][:5]))
    assert f"UnGAN: least {', '.join(least)}; most {', '.join(most)}" in printed


def test_records_are_named_by_the_report_and_purged(output: Path) -> None:
    run = output / "run"
    exported(run, "--records")
    assert "run/records.parquet" in (run / "report.html").read_text()
    assert run_command("verify", run).returncode == 0
    assert "run/records.parquet" in run_command("purge", run, "--dry-run").stdout
    assert run_command("purge", run).returncode == 0
    assert not (run / "records.parquet").exists()
    assert_refused(run_command("export", run, "--records"), "purged")


def test_leave_one_out_scores_each_model_by_the_others() -> None:
    from ungan_dist.config.attack import AttackConfig
    from ungan_dist.runs.examples import measure_leave_one_out

    rng = np.random.default_rng(5)
    half = rng.permuted(np.tile([True, False], (8, 15)), axis=1)
    membership = np.stack([half, ~half], axis=1).reshape(16, 30)
    log_odds = rng.normal(size=(16, 30, 1)) + 1.5 * membership[..., None]
    attack = AttackConfig(variance="per_example", sigma_floor=1e-6)
    found = measure_leave_one_out(log_odds, membership, attack)
    assert found is not None
    for example in range(30):
        is_in, values, scores = membership[:, example], log_odds[:, example, 0], []
        for model in range(16):
            rest = np.array([other for other in range(16) if other // 2 != model // 2])
            logs = [norm.logpdf(values[model], values[some].mean(), values[some].std())
                    for some in (rest[is_in[rest]], rest[~is_in[rest]])]  # fmt: skip
            scores.append(logs[0] - logs[1])
        assert found[example] == pytest.approx(roc_auc_score(is_in, scores))
    assert measure_leave_one_out(log_odds[:4], membership[:4], attack) is None


def test_what_cannot_be_exported_is_refused(finished_run: Path, tmp_path: Path) -> None:
    run = finished_run / "run"
    assert_refused(run_command("export", run, "--format", "parquet"), "--output")
    assert_refused(run_command("export", run, "--records", "--output", tmp_path / "x"), "personal data")
    assert_refused(run_command("export", run, "--format", "xls"), "csv")
    assert_refused(run_command("export", "s3://bucket/runs/digits-1"), "copy")
    assert_refused(run_command("export", tmp_path), str(tmp_path))
