"""Quantiles and tails against scipy.stats, and that scipy.stats stays unimported."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ungan_dist.attack import distributions as ours

PROBABILITIES = st.floats(1e-9, 1 - 1e-9)
VALUES = st.floats(-40, 40)
FREEDOMS = st.floats(0.5, 1e6)
COUNTS = st.integers(1, 500)


@given(p=PROBABILITIES, x=VALUES)
def test_normal(p: float, x: float) -> None:
    assert ours.normal_quantile(p) == stats.norm.ppf(p)
    assert ours.normal_below(x) == pytest.approx(stats.norm.cdf(x), rel=1e-12)
    assert ours.normal_above(x) == pytest.approx(stats.norm.sf(x), rel=1e-12)


@given(p=PROBABILITIES, x=VALUES, freedom=FREEDOMS)
def test_student_t(p: float, x: float, freedom: float) -> None:
    assert ours.student_t_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=1e-9)
    assert ours.student_t_above(x, freedom) == pytest.approx(stats.t.sf(x, freedom), rel=1e-9)


@given(p=PROBABILITIES, freedom=st.floats(1, 1e4))
def test_chi2(p: float, freedom: float) -> None:
    assert ours.chi2_quantile(p, freedom) == pytest.approx(stats.chi2.ppf(p, freedom), rel=1e-9)
    assert ours.chi2_upper_quantile(p, freedom) == pytest.approx(stats.chi2.isf(p, freedom), rel=1e-9)


@given(p=st.floats(1e-4, 1 - 1e-4), above=COUNTS, below=COUNTS)
def test_f(p: float, above: int, below: int) -> None:
    # scipy.stats takes 1 - p, so its upper quantile is compared by its tail
    assert ours.f_quantile(p, above, below) == pytest.approx(stats.f.ppf(p, above, below), rel=1e-9)
    upper = ours.f_upper_quantile(p, above, below)
    assert stats.f.sf(upper, above, below) == pytest.approx(p, rel=1e-7)


@given(num_trials=COUNTS, share=st.floats(0, 1), level=st.floats(0.5, 0.999))
def test_exact_share_interval(num_trials: int, share: float, level: float) -> None:
    num_hits = round(share * num_trials)
    theirs = stats.binomtest(num_hits, num_trials).proportion_ci(level, "exact")
    assert ours.exact_share_interval(num_hits, num_trials, level) == pytest.approx(tuple(theirs), abs=1e-9)


def test_arrays_are_taken_whole() -> None:
    x = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(ours.student_t_above(x, np.arange(1, 8)), stats.t.sf(x, np.arange(1, 8)), rtol=1e-12)


def test_the_audit_does_not_import_scipy_stats() -> None:
    code = """
import pkgutil, sys
from importlib import import_module
import ungan_dist.attack as attack
for module in pkgutil.walk_packages(attack.__path__, "ungan_dist.attack."):
    import_module(module.name)
print([name for name in ("scipy.stats", "sklearn", "pandas", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
