"""Functions of the attack give the same numbers for NumPy arrays, lists and torch tensors, and name what is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_report import evidence_of

from ungan_dist.attack import intervals, lira, metrics
from ungan_dist.attack.moments import compute_in_and_out_moments, compute_moments
from ungan_dist.attack.score import score_rows
from ungan_dist.config.attack import AttackConfig

ROOT = Path(__file__).parents[3]


def as_parameter(array: np.ndarray) -> Any:
    """A tensor that requires a gradient, if its type can."""
    tensor = torch.tensor(array)
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def in_type(dtype: torch.dtype) -> Callable[[np.ndarray], Any]:
    """Tensors of a floating type; masks stay masks."""
    return lambda array: torch.tensor(array).to(dtype) if array.dtype.kind == "f" else torch.tensor(array)


def strided(array: np.ndarray) -> Any:
    """A tensor that is a view of every second element of a larger one."""
    return torch.repeat_interleave(torch.tensor(array), 2, dim=-1)[..., ::2]


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "list": lambda array: array.tolist(),
    "list of tensors": lambda array: [torch.tensor(row) for row in array],
    "tuple of arrays": tuple,
    "float32": in_type(torch.float32),
    "float16": in_type(torch.float16),
    "bfloat16": in_type(torch.bfloat16),
    "requires_grad": as_parameter,
    "strided": strided,
    "Fortran order": np.asfortranarray,
}


def numbers(*shape: int) -> st.SearchStrategy[np.ndarray]:
    """Multiples of 1/8 in −8 … 8, which every floating type holds exactly."""
    size = int(np.prod(shape))
    cells = st.lists(st.integers(-64, 64), min_size=size, max_size=size)
    return cells.map(lambda cells: np.array(cells, dtype=np.float64).reshape(shape) / 8)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@settings(max_examples=4)
@given(shadow=numbers(6, 3, 2), target=numbers(3, 2), flips=st.lists(st.booleans(), min_size=9, max_size=9))
def test_lira_is_the_same_for_every_form(
    form: Callable[[np.ndarray], Any], shadow: np.ndarray, target: np.ndarray, flips: list[bool]
) -> None:
    first = np.array(flips).reshape(3, 3)
    membership = np.stack([first, ~first], axis=1).reshape(6, 3)
    membership[:4] = [[True] * 3, [False] * 3, [True] * 3, [False] * 3]
    for options in ({}, {"mode": "offline"}, {"center": "median", "variance": "carlini_fixed"}):
        expected = lira.likelihood_ratio(shadow, membership, target, **options)
        given_form = lira.likelihood_ratio(form(shadow), form(membership), form(target), **options)
        np.testing.assert_array_equal(given_form, expected)
    left_out = np.array([False, False, False, False, True, True])
    expected = lira.likelihood_ratio(shadow, membership, target, leave_out=[4, 5])
    for leave_out in (form(left_out), form(np.array([4, 5]))):
        found = lira.likelihood_ratio(form(shadow), form(membership), form(target), leave_out=leave_out)
        np.testing.assert_array_equal(found, expected)
    for moments in (compute_moments, compute_in_and_out_moments):
        for found, wanted in zip(
            moments(form(shadow[..., 0]), form(membership)), moments(shadow[..., 0], membership), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@settings(max_examples=4)
@given(positive=numbers(12), negative=numbers(10))
def test_metrics_and_intervals_are_the_same_for_every_form(
    form: Callable[[np.ndarray], Any], positive: np.ndarray, negative: np.ndarray
) -> None:
    sets, forms = (positive, negative), (form(positive), form(negative))
    assert metrics.auc(*forms) == metrics.auc(*sets)
    assert metrics.tpr_at_fpr(*forms, fpr=0.2) == metrics.tpr_at_fpr(*sets, fpr=0.2)
    assert metrics.operating_point(*forms, fnr=0.2) == metrics.operating_point(*sets, fnr=0.2)
    assert metrics.tnr_at_fnr(*forms, fnr=0.2) == metrics.tnr_at_fnr(*sets, fnr=0.2)
    np.testing.assert_array_equal(metrics.roc_curve(*forms), metrics.roc_curve(*sets))
    assert intervals.student_t_interval(forms[0], 0.9) == intervals.student_t_interval(sets[0], 0.9)
    resamples = np.stack([positive, positive[::-1]])
    found = intervals.bootstrap_interval(form(np.array([0.5, 0.25])), form(resamples), 0.9, num_examples=50)
    assert found == intervals.bootstrap_interval([0.5, 0.25], resamples, 0.9, num_examples=50)
    counts = [intervals.draw_resample_counts(len(scores), 20, seed=0) for scores in sets]

    def share(a: intervals.ResampledScores, b: intervals.ResampledScores) -> np.ndarray:
        return intervals.resample_share_above(a, b, 3)[None]

    np.testing.assert_array_equal(
        intervals.bootstrap(share, forms, [form(drawn) for drawn in counts]),
        intervals.bootstrap(share, sets, counts),
    )


@pytest.mark.parametrize("form", [FORMS[name] for name in ("list", "float32", "requires_grad")])
def test_rows_are_the_same_for_every_form(form: Callable[[np.ndarray], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production
    attack = AttackConfig(num_resamples=100)
    evidence = [evidence_of(method, 0) for method in ("original", "retrain")]
    evidence = [replace(item, scores=item.scores.astype(np.float32)) for item in evidence]
    names = ("log_odds", "log_odds_unseen", "scores", "retain", "forget", "non_members")
    other = [replace(item, **{name: form(getattr(item, name)) for name in names}) for item in evidence]
    assert score_rows(other, attack, num_test=297) == score_rows(evidence, attack, num_test=297)


def test_numpy_alone_imports_no_torch() -> None:
    code = """
import sys
import numpy as np
from ungan_dist.attack import intervals, lira, metrics, power, score
membership = np.array([[True], [True], [False], [False]])
lira.likelihood_ratio(np.array([4.0, 5, 1, 2]).reshape(4, 1, 1), membership, [[4.5]], variance="pooled")
metrics.auc([1, 2], np.array([0, 1]))
intervals.student_t_interval([0.1, 0.2, 0.3], 0.9)
print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


SHADOW = np.random.default_rng(0).normal(size=(6, 5, 1)).astype(np.float32)
MEMBERSHIP = np.tile([[True], [False]], (3, 5))


@pytest.mark.parametrize(
    ("shadow", "membership", "words"),
    [
        (torch.tensor(SHADOW), torch.tensor(MEMBERSHIP[:, 1:]), "torch.bool of shape [6, 4]"),
        (SHADOW, torch.tensor(MEMBERSHIP).int(), "torch.int32 of shape [6, 5]; convert zeros and ones"),
        (SHADOW, MEMBERSHIP.astype(int).tolist(), "a list of int64 of shape [6, 5]; convert zeros and ones"),
        (torch.tensor(SHADOW[..., 0]), MEMBERSHIP, "torch.float32 of shape [6, 5]; add an axis"),
        (SHADOW, [[True], [True, False]], "membership cannot be read as an array of numbers"),
        (SHADOW.astype(str), MEMBERSHIP, "shadow_log_odds must be real numbers, got <U"),
        (SHADOW.astype(complex), MEMBERSHIP, "shadow_log_odds must be real numbers, got complex128"),
        (np.ma.masked_greater(SHADOW, 0), MEMBERSHIP, "shadow_log_odds has masked entries"),
        (torch.empty(6, 5, 1, device="meta"), MEMBERSHIP, "shadow_log_odds cannot be read"),
    ],
)
def test_errors_name_what_was_given(shadow: Any, membership: Any, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production
    with pytest.raises(ValueError, match=re.escape(words)):
        lira.fit_shadows(shadow, membership)


def test_errors_of_targets_and_scores_name_what_was_given() -> None:
    fits = lira.fit_shadows(torch.tensor(SHADOW), torch.tensor(MEMBERSHIP))
    with pytest.raises(ValueError, match=r"\[5, 1\].*got torch.float64 of shape \[4, 1\]"):
        fits.score(torch.zeros(4, 1, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"leave_out must be in 0 … 5, got \[6\]"):
        lira.fit_shadows(SHADOW, MEMBERSHIP, leave_out=torch.tensor([6]))
    with pytest.raises(ValueError, match=r"a list of integers or a mask of shape \[6\], got torch.float32"):
        lira.fit_shadows(SHADOW, MEMBERSHIP, leave_out=torch.tensor([1.5]))
    with pytest.raises(ValueError, match=r"positive scores must be one-dimensional.*, got torch.float32"):
        metrics.auc(torch.zeros(2, 3), [1.0])
