"""The self-check of a fused operation: real faults of a kernel are found, and a slow one is not taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ungan_dist.kernels import self_check
from ungan_dist.kernels.impl import FUSED
from ungan_dist.kernels.self_check import LEAST_GAIN, Verdict, judge
from ungan_dist.kernels.self_check.cases import make_case

CRITIC = {"batch": 3, "features": 4, "widths": [5, 6, 7]}
SHAPES: dict[str, dict[str, Any]] = {
    "critic_loss": CRITIC,
    "critic_sgd_step": CRITIC,
    "energy_distance": {"n": 9, "m": 7, "dim": 3},
    "energy_distance_1d": {"first": 9, "second": 7, "groups": 2},
    "gather_augmented": {"height": 5, "width": 4, "channels": 3, "batch": 4, "padding": 1, "flip": True},
    "generator_loss": CRITIC,
    "log_odds": {"models": 2, "batch": 9, "classes": 5},
}
TAKE_LONG = ("critic_loss", "critic_sgd_step")

# The interpreter's numpy warns of log 0 in padding rows, which are not stored.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def clock_of(*ratios: float) -> Callable[[Callable[[], object]], float]:
    """A clock by which the fused form is so many times as fast, in turn; the calls of the first gate are real."""
    number = iter(range(1000))
    return lambda call: 1.0 if call.__name__ == "reference" else 1 / ratios[next(number) % len(ratios)]


def judge_log_odds(device: str, *ratios: float) -> Verdict:
    return judge("log_odds", SHAPES["log_odds"], torch.float32, device, clock_of(*(ratios or (2.0,))))


def test_every_operation_of_a_run_can_be_judged() -> None:
    """The two without a case are parts of others, which no run calls alone."""
    assert set(SHAPES) == FUSED - {"cramer_surrogate", "gradient_penalty"}


@pytest.mark.parametrize(
    "operation",
    [pytest.param(name, marks=[pytest.mark.process] * (name in TAKE_LONG)) for name in sorted(SHAPES)],
)
def test_a_right_and_faster_kernel_is_taken(fused_device: str, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "NUM_DRAWS", 1)  # seconds each in the interpreter
    verdict = judge(operation, SHAPES[operation], torch.float32, fused_device, clock_of(2.0))
    assert (verdict.choice, verdict.ratio, verdict.interval) == ("fused", 2.0, (2.0, 2.0)), verdict
    assert verdict.error is not None
    assert verdict.budget is not None
    assert verdict.error <= verdict.budget <= 1e-4


def test_the_interval_decides_not_the_median(fused_device: str) -> None:
    """A median of 2 whose interval reaches 1 is not above 1.1."""
    uncertain = judge_log_odds(fused_device, 2.0, 1.0, 2.0, 2.0, 1.0, 3.0)
    assert uncertain.ratio is not None
    assert uncertain.interval is not None
    assert uncertain.ratio > LEAST_GAIN > uncertain.interval[0]
    assert uncertain.choice == "reference"
    assert "not above 1.1" in uncertain.reason
    assert judge_log_odds(fused_device, 1.05).choice == "reference"


def overwrite(result: Tensor) -> Tensor:
    """Write one element behind the result, as a kernel with a wrong mask does."""
    storage = torch.as_strided(result, (1,), (1,), result.storage_offset() + result.numel())
    storage.fill_(7.0)
    return result


calls = iter(range(10**6))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda result: result * (1 + 3e-5), "wrong: its error 3e-05 in relative norm exceeds 1e-05"),
        (overwrite, "wrote outside a buffer"),
        (lambda result: result + 1e-6 * next(calls), "two calls gave different bits"),
        (lambda result: result.nan_to_num(0.0), "it hides NaN"),
    ],
    ids=["inaccurate", "out of bounds", "unrepeatable", "hides NaN"],
)
def test_faults_of_a_kernel_are_found(
    fused_device: str, fault: Callable[[Tensor], Tensor], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ungan_dist.kernels.log_odds import fused

    intact = fused.log_odds
    monkeypatch.setattr(fused, "log_odds", lambda *arguments: fault(intact(*arguments)))
    verdict = judge_log_odds(fused_device)
    assert verdict.choice == "reference"
    assert reason in verdict.reason
    assert verdict.ratio is None


def test_an_exception_is_the_reason(fused_device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ungan_dist.kernels.log_odds import fused

    def fail(*_: object) -> Tensor:
        raise ImportError("Failed to find C compiler. Please specify via CC environment variable.")

    monkeypatch.setattr(fused, "log_odds", fail)
    verdict = judge_log_odds(fused_device)
    assert verdict.choice == "reference"
    assert verdict.error is None
    assert "ImportError: Failed to find C compiler" in verdict.reason


@pytest.mark.usefixtures("compiled_kernels")
def test_a_device_without_kernels_is_a_reason() -> None:
    verdict = judge("log_odds", SHAPES["log_odds"], torch.float32, "cpu")
    assert verdict.choice == "reference"
    assert "not on a CUDA GPU" in verdict.reason


def test_a_wrong_gradient_is_found(fused_device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss alone would pass."""
    monkeypatch.setattr(self_check, "NUM_DRAWS", 1)
    from ungan_dist.kernels.critic import fused

    intact = fused.unflatten
    monkeypatch.setattr(fused, "unflatten", lambda flat, like: intact(flat * (1 + 1e-4), like))
    verdict = judge("critic_loss", CRITIC, torch.float32, fused_device, clock_of(2.0))
    assert verdict.choice == "reference"
    assert verdict.reason.startswith("wrong: its error")
    assert verdict.error == pytest.approx(1e-4, rel=0.02)


def test_critic_cases_stay_away_from_the_kinks_of_relu() -> None:
    """There rounding alone decides a derivative, and a right kernel would fail."""
    from ungan_dist.kernels.self_check.cases import KINK_MARGIN

    shapes = {"batch": 256, "features": 20, "widths": [128, 128, 128]}
    for seed in range(3):
        *weights, z_unseen, z_forget, z_forget2, epsilon = make_case(
            "critic_loss", shapes, torch.float32, "cpu", seed=seed
        ).inputs
        for rows in (z_unseen, z_forget, z_forget2, epsilon * z_unseen + (1 - epsilon) * z_forget):
            first = rows @ weights[0].T + weights[1]
            second = first.relu() @ weights[2].T + weights[3]
            assert min(float(first.abs().min()), float(second.abs().min())) >= KINK_MARGIN
