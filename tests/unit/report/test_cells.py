from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from synthetic_report import make_report

from ungan_dist.attack.evidence import Interval, Report
from ungan_dist.commands.runs import listing
from ungan_dist.report import render
from ungan_dist.report.cells import (
    build_columns,
    explain_omitted_columns,
    format_delta,
    format_interval,
    format_number,
    format_percent,
    format_rate,
    format_seconds,
    format_signed,
    list_computed_rates,
    list_rates,
)
from ungan_dist.report.roc_of_method import rate_at
from ungan_dist.report.terminal import WIDTH, build_terminal_table


def interval(mean: float, low: float, high: float) -> Interval:
    return Interval(mean=mean, low=low, high=high, level=0.95, kind="student_t", per_seed=[mean])


def test_interval_is_a_half_width_where_both_sides_print_the_same() -> None:
    assert format_percent(interval(0.971, 0.967, 0.975)) == "97.1 ± 0.4"
    assert format_percent(interval(0.971, 0.960, 0.975)) == "97.1 [96.0, 97.5]"
    assert format_interval(interval(-0.02, -0.05, 0.0), 2) == ("−0.02", "[−0.05, 0.00]")
    assert format_percent("n/a (needs ≥ 1,000 retain examples)") == "n/a (needs ≥ 1,000 retain examples)"
    assert format_percent(None) == "–"


@given(st.floats(-10, 10, allow_nan=False), st.integers(0, 4))
def test_number_reads_back_rounded_and_zero_has_no_sign(value: float, digits: int) -> None:
    text = format_number(value, digits)
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.5 * 10**-digits + 1e-9)
    assert not (text.startswith("−") and float(text[1:]) == 0)
    assert format_signed(value, digits).lstrip("+") == text


@given(st.floats(0, 1, allow_nan=False))
def test_delta_is_rounded_up(value: float) -> None:
    assert value < float(format_delta(value)) <= value + 0.001 + 1e-9


def test_rates_and_seconds_are_rounded_for_reading() -> None:
    assert [format_rate(text) for text in ("0.01", "0.001", "1e-05", "0.125")] == ["1 %", "0.1 %", "0.001 %", "12.5 %"]
    assert [format_seconds(value) for value in (0.0, 3.456, 12.34, 123.4, None)] == ["0.00", "3.46", "12.3", "123", "–"]


def test_curve_is_read_at_the_highest_rate_allowed() -> None:
    fpr, tpr = np.array([0, 0, 0.25, 0.5, 1.0]), np.array([0, 0.5, 0.5, 1, 1.0])
    grid = np.array([0.1, 0.25 * (1 - 1e-15), 0.3, 0.5, 1.0])
    brute = [max(t for f, t in zip(fpr, tpr, strict=True) if f <= g * (1 + 1e-12)) for g in grid]
    assert rate_at(fpr, tpr, grid).tolist() == brute == [0.5, 0.5, 0.5, 1.0, 1.0]


def render_table(report: Report, width: int = WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(build_terminal_table(report, width))
    return capture.get()


@pytest.mark.parametrize("width", [60, 80, 100, 110, 120])
def test_a_narrow_terminal_loses_columns_and_breaks_no_row(width: int) -> None:
    report = make_report(3)
    lines = render_table(report, width).splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert all(heading in text for heading in ("Forget %", "Test %", "AUC", "Verdict"))
    assert [word in text for word in ("TPR", "TNR", "Retain")] == [width >= 110, width >= 100, width >= 80]
    assert ("more columns" in text) == (width < 110)
    if width >= 80:
        for row in report.rows:
            # the row's name, its AUC and its verdict are in one line
            assert any(
                row.title.split()[0] in line and f"{row.auc.mean:.3f}" in line and row.verdict.outcome in line
                for line in lines
            )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_runs_on_a_narrow_terminal(width: int) -> None:
    numbers, verdicts = ["128", "3", "12"], "9 under-forgotten, 2 equivalent"
    rows = [
        [f"digits-{'0' * 8}", "PARTIAL", "2026-01-02 03:04", "small_cnn", *numbers, verdicts, "12.3 MiB"],
        ["data/", "shared", *[""] * 6, "1 B"],
    ]
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(listing(rows, width))
    lines = capture.get().splitlines()
    assert len(lines) == (3 if width == 120 else 4)  # verdicts are folded first
    assert max(map(len, lines)) <= width
    assert all(cell in lines[1] for cell in (rows[0][0], "PARTIAL", "9 under-forgotten"))
    assert "equivalent" in (lines[1] if width == 120 else lines[2])
    assert lines[1].endswith(" 12.3 MiB")
    shown = [name for name in ("date", "shadows", "rows", "seeds", "model") if f" {name} " in lines[0]]
    assert shown == {60: [], 80: ["date"], 120: ["date", "shadows", "rows", "seeds", "model"]}[width]


def test_a_column_of_reasons_is_a_line_below_the_table() -> None:
    report = make_report(1)
    assert list_rates(report, "tpr_at_fpr") == ["0.01", "0.001"]
    assert list_computed_rates(report, "tpr_at_fpr") == ["0.01"]
    assert not any("0.1 %" in column.heading for column in build_columns(report))
    assert explain_omitted_columns(report) == [
        "Left out: (a) TNR @ 0.1 % FNR: n/a (needs ≥ 1,000 retain examples).",
        "Left out: (b) TPR @ 0.1 % FPR, (b) flipped TPR @ 0.1 % FPR: n/a (needs ≥ 1,000 never-seen examples).",
    ]
    files = render(report)
    for name in ("report.html", "table.md"):
        assert files[name].decode().count("never-seen examples)") == 1
    assert files["table.json"].count(b"never-seen examples)") > 1


@pytest.mark.parametrize("num_seeds", [1, 3])
def test_terminal_table_fits_and_holds_every_method(num_seeds: int) -> None:
    report = make_report(num_seeds, status="PARTIAL", missing=["[bold]unit[/bold] 7"])
    text = render_table(report)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "PARTIAL; missing: [bold]unit[/bold] 7" in text
    for row in report.rows:
        assert row.title.split(",")[0] in text
        assert row.verdict.outcome in text
        assert f"{row.auc.mean:.3f}" in text


def test_a_column_formats_all_its_intervals_alike() -> None:
    report = make_report(3)
    odd = dataclasses.replace(report.rows[0], auc=interval(0.7, 0.5, 0.75))
    report = dataclasses.replace(report, rows=[odd, *report.rows[1:]])
    auc = next(column for column in build_columns(report) if column.heading == "AUC")
    assert all("[" in auc.cell(row) for row in report.rows)
    retain = next(column for column in build_columns(report) if column.heading == "Retain")
    assert all("±" in retain.cell(row) for row in report.rows)
