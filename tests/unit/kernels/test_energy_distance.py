"""The energy distance against SciPy's distances, and the laws of a distance."""

from __future__ import annotations

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from torch import Tensor

from ungan_dist.kernels import energy_distance, resolve


def samples(num_x: int, num_y: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(n, dim, generator=generator, dtype=torch.float64) for n in (num_x, num_y))
    return x, y + 0.3


def definition(x: Tensor, y: Tensor, *, unbiased: bool) -> float:
    def within(rows: np.ndarray) -> float:
        distances = cdist(rows, rows)
        return distances[~np.eye(len(rows), dtype=bool)].mean() if unbiased else distances.mean()

    a, b = x.detach().numpy(), y.detach().numpy()
    return 2 * cdist(a, b).mean() - within(a) - within(b)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(("num_x", "num_y", "dim"), [(2, 2, 1), (7, 5, 3), (33, 17, 64)])
def test_it_is_the_mean_of_scipys_distances(num_x: int, num_y: int, dim: int, unbiased: bool) -> None:
    x, y = samples(num_x, num_y, dim)
    assert energy_distance(x, y, unbiased=unbiased).item() == pytest.approx(
        definition(x, y, unbiased=unbiased), rel=1e-12, abs=1e-13
    )


def test_unbiased_is_the_default_and_may_be_negative() -> None:
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    assert energy_distance(x, x).item() == -1.0  # 2·(1/2) − 1 − 1
    assert energy_distance(x, x, unbiased=False).item() == 0.0


def test_the_unbiased_form_is_zero_in_expectation_for_one_distribution() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(300, 2, 6, 2, generator=generator, dtype=torch.float64)
    distances = torch.stack([energy_distance(x, y) for x, y in draws])
    biased = torch.stack([energy_distance(x, y, unbiased=False) for x, y in draws])
    standard_error = distances.std() / len(distances) ** 0.5
    assert distances.mean().abs() < 4 * standard_error
    assert biased.mean() > 10 * standard_error


numbers = st.floats(-10, 10, allow_subnormal=False).map(lambda value: round(value, 3))
rows = arrays(np.float64, st.tuples(st.integers(2, 6), st.just(3)), elements=numbers).map(torch.from_numpy)


@given(rows, rows, st.booleans(), arrays(np.float64, 3, elements=numbers).map(torch.from_numpy))
def test_the_laws_of_a_distance(x: Tensor, y: Tensor, unbiased: bool, shift: Tensor) -> None:
    distance = energy_distance(x, y, unbiased=unbiased)
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(energy_distance(y, x, unbiased=unbiased), distance, **close)
    torch.testing.assert_close(energy_distance(x + shift, y + shift, unbiased=unbiased), distance, **close)
    torch.testing.assert_close(energy_distance(-3 * x, -3 * y, unbiased=unbiased), 3 * distance, **close)
    torch.testing.assert_close(energy_distance(x.flip(0), y, unbiased=unbiased), distance, **close)


@given(rows, rows)
def test_the_biased_form_is_never_negative_and_zero_for_equal_distributions(x: Tensor, y: Tensor) -> None:
    assert energy_distance(x, y, unbiased=False) >= -1e-12
    assert energy_distance(x, torch.cat([x, x]), unbiased=False).abs() < 1e-12


@pytest.mark.parametrize("unbiased", [True, False])
def test_gradients_of_both_orders_equal_finite_differences(unbiased: bool) -> None:
    x, y = (rows.requires_grad_() for rows in samples(4, 3, 2))

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return energy_distance(x, y, unbiased=unbiased)

    assert torch.autograd.gradcheck(distance, (x, y))
    assert torch.autograd.gradgradcheck(distance, (x, y))


def test_coinciding_rows_have_finite_derivatives_of_both_orders() -> None:
    x = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    y = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(energy_distance(x, y), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum() + first.sum(), y)
    assert first.eq(0).all()
    assert second.eq(0).all()


@pytest.mark.parametrize(
    ("shape_x", "shape_y", "unbiased", "message"),
    [
        ((0, 3), (4, 3), False, "at least 1 rows"),
        ((4, 3), (0, 3), False, "at least 1 rows"),
        ((1, 3), (4, 3), True, "at least 2 rows"),
        ((4, 3), (4, 2), True, "same dim"),
        ((4,), (4,), True, "same dim"),
    ],
)
def test_mismatched_samples_are_refused(
    shape_x: tuple[int, ...], shape_y: tuple[int, ...], unbiased: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production: only the package's checks
    with pytest.raises(ValueError, match=message):
        energy_distance(torch.zeros(shape_x), torch.zeros(shape_y), unbiased=unbiased)


def test_one_row_is_enough_for_the_biased_form() -> None:
    assert energy_distance(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), unbiased=False).item() == 10.0


@pytest.mark.usefixtures("compiled_kernels")
def test_the_implementation_is_never_replaced_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = samples(3, 3, 2)
    assert torch.equal(energy_distance(x, y), energy_distance(x, y, impl="reference"))
    assert resolve("energy_distance", "auto").name == "reference"
    assert "auto takes the reference outside a run" in resolve("energy_distance", "auto").reason
    with pytest.raises(ValueError, match="use impl='reference'"):
        energy_distance(x, y, impl="fused")
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="got 'fastest'"):
        energy_distance(x, y, impl="fastest")  # pyright: ignore[reportArgumentType]
