from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.synthetic import make_report

from ungan_dist.evidence import Interval
from ungan_dist.report.cells import delta, number, percent, rate, seconds, signed, spread
from ungan_dist.report.figures import _rate_at
from ungan_dist.report.terminal import WIDTH, render_table


def interval(mean: float, low: float, high: float) -> Interval:
    return Interval(mean=mean, low=low, high=high, level=0.95, kind="student_t", per_seed=[mean])


def test_interval_is_a_half_width_where_both_sides_print_the_same() -> None:
    assert percent(interval(0.971, 0.967, 0.975)) == "97.1 ± 0.4"
    assert percent(interval(0.971, 0.960, 0.975)) == "97.1 [96.0, 97.5]"
    assert spread(interval(-0.02, -0.05, 0.0), 2) == ("−0.02", "[−0.05, 0.00]")
    assert percent("n/a (needs ≥ 1,000 retain examples)") == "n/a (needs ≥ 1,000 retain examples)"
    assert percent(None) == "–"


@given(st.floats(-10, 10, allow_nan=False), st.integers(0, 4))
def test_number_reads_back_rounded_and_zero_has_no_sign(value: float, digits: int) -> None:
    text = number(value, digits)
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.5 * 10**-digits + 1e-9)
    assert not (text.startswith("−") and float(text[1:]) == 0)
    assert signed(value, digits).lstrip("+") == text


@given(st.floats(0, 1, allow_nan=False))
def test_delta_is_rounded_up(value: float) -> None:
    assert value < float(delta(value)) <= value + 0.001 + 1e-9


def test_rates_and_seconds_as_a_reader_writes_them() -> None:
    assert [rate(text) for text in ("0.01", "0.001", "1e-05", "0.125")] == ["1 %", "0.1 %", "0.001 %", "12.5 %"]
    assert [seconds(value) for value in (0.0, 3.456, 12.34, 123.4, None)] == ["0.00", "3.46", "12.3", "123", "–"]


def test_curve_is_read_at_the_highest_rate_allowed() -> None:
    fpr, tpr = np.array([0, 0, 0.25, 0.5, 1.0]), np.array([0, 0.5, 0.5, 1, 1.0])
    grid = np.array([0.1, 0.25 * (1 - 1e-15), 0.3, 0.5, 1.0])
    brute = [max(t for f, t in zip(fpr, tpr, strict=True) if f <= g * (1 + 1e-12)) for g in grid]
    assert _rate_at(fpr, tpr, grid).tolist() == brute == [0.5, 0.5, 0.5, 1.0, 1.0]


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
