"""Three TF32 products on emulated tensor cores: the kernels stay within the self-check's budget."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tensor_cores import EXTRA_BITS, TERMS_AT_ONCE, emulated, multiply_add, multiply_tf32x3, round_to_tf32

from ungan_dist.kernels import self_check
from ungan_dist.kernels.self_check import BUDGETS, judge

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has the real tensor cores"),
]
CRITIC = {"batch": 3, "features": 4, "widths": [5, 6, 7]}


@pytest.fixture
def dots() -> Iterator[Any]:
    with emulated() as counter:
        yield counter


def test_numbers_are_rounded_to_ten_bits_of_fraction() -> None:
    ulp = 2.0**-10
    values = np.array([1 + ulp / 4, 1 + ulp / 2, 1 + 3 * ulp / 4, -1 - ulp / 2, np.inf], dtype=np.float32)
    assert round_to_tf32(values).tolist() == [1, 1 + ulp, 1 + ulp, -1 - ulp, np.inf]
    assert np.isnan(round_to_tf32(np.array([np.nan], dtype=np.float32)))[0]


def test_sums_are_aligned_to_the_largest_term_and_truncated() -> None:
    """A term below the last kept bit of the largest is lost, as in the published measurements; float32 would round."""
    lost = 2.0 ** -(24 + EXTRA_BITS)
    left = np.array([[1.0, *[lost] * (TERMS_AT_ONCE - 1)]], dtype=np.float32)
    right = np.ones((TERMS_AT_ONCE, 1), dtype=np.float32)
    assert multiply_add(left, right, np.zeros((1, 1), dtype=np.float32))[0, 0] == 1.0
    almost = np.array([[1.0, 2.0**-24 + 2.0**-25, 0.0, 0.0]], dtype=np.float32)
    assert multiply_add(almost, right, np.zeros((1, 1), dtype=np.float32))[0, 0] == 1.0  # to nearest: 1 + 2**-23


def test_three_products_have_the_accuracy_of_float32_and_one_has_not() -> None:
    """The reason why a single TF32 product is no option."""
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((32, 32)).astype(np.float32) for _ in range(2))
    exact, zero = left.astype(np.float64) @ right.astype(np.float64), np.zeros((32, 32), dtype=np.float32)

    def error(found: np.ndarray) -> float:
        return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))

    assert error(multiply_tf32x3(left, right, zero)) < 1e-6
    assert error(multiply_add(round_to_tf32(left), round_to_tf32(right), zero)) > 1e-4


@pytest.mark.parametrize(
    ("operation", "shapes"),
    [
        pytest.param("critic_loss", CRITIC, marks=pytest.mark.process, id="critic_loss"),  # takes long
        pytest.param("generator_loss", CRITIC, id="generator_loss"),
        pytest.param("energy_distance", {"n": 9, "m": 7, "dim": 40}, marks=pytest.mark.process, id="energy_distance"),
    ],
)
def test_kernels_are_right_on_tensor_cores(
    dots: Any, operation: str, shapes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32 by three TF32 products, and in bfloat16, which the interpreter alone computes wrongly."""
    monkeypatch.setattr(self_check, "NUM_DRAWS", 1)
    for dtype, kind in ((torch.float32, "tf32x3"), (torch.bfloat16, "bf16")):
        verdict = judge(operation, shapes, dtype, "cpu", lambda _: 1.0)
        assert verdict.reason.startswith("right"), (dtype, verdict)
        assert verdict.error is not None
        assert verdict.error <= 2 * BUDGETS[dtype]
        assert dots[kind] > 0
