"""The fused energy distance against float64, near and equal rows included."""

from __future__ import annotations

import pytest
import torch
from fused_budget import assert_within_budget, compare_fused, value_and_gradients
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ungan_dist.kernels import energy_distance
from ungan_dist.kernels.energy_distance.reference import mean_between


def samples(n, m, dim, device, offset=0.0, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = (offset + scale * torch.randn(n, dim, generator=generator)).double().to(device)
    y = (offset + scale * torch.randn(m, dim, generator=generator)).double().to(device)
    return x, y


def compare(x, y, *, unbiased=True):
    # The three means cancel, so rounding is relative to the subtracted terms.
    magnitude = float(2 * mean_between(x, y))
    return compare_fused(
        lambda impl, x, y: energy_distance(x, y, unbiased=unbiased, impl=impl), [x, y], magnitude=magnitude
    )


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(
    ("n", "m", "dim"),
    [(3, 2, 1), (32, 32, 16), (33, 5, 5), (34, 6, 40), (65, 33, 35)],
    ids=["tiny", "edges", "odd", "dots", "dots over edges"],
)
def test_value_and_gradients(fused_device, n, m, dim, unbiased):
    compare(*samples(n, m, dim, fused_device), unbiased=unbiased)


def test_one_row_against_itself_has_no_pairs(fused_device):
    compare(*samples(1, 3, 4, fused_device), unbiased=False)


@pytest.mark.parametrize("dim", [6, 40], ids=["differences", "dots"])
def test_equal_rows(fused_device, dim):
    """Equal within a sample and across both: no distance, no gradient, no NaN."""
    x, y = samples(5, 4, dim, fused_device)
    x[1], y[2] = x[0], x[0]
    fused = compare(x, y)
    assert all(bool(gradient.isfinite().all()) for gradient in fused[1])


def test_near_pairs_by_dots(fused_device):
    """Rows are 1e-4 apart and far from the centre, where dot products lose all digits of the distance."""
    x, y = samples(6, 5, 40, fused_device)
    y[:3] = x[:3] + 1e-4 * y[:3]
    compare(x.float().double(), y.float().double())


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scales_and_a_common_offset(fused_device, scale):
    compare(*samples(5, 4, 40, fused_device, offset=100 * scale, scale=scale))


def test_strided_samples_and_a_scaled_result(fused_device):
    x, y = samples(7, 6, 10, fused_device)
    low, exact, fused = (
        value_and_gradients(
            lambda x, y, i=impl: 3 * energy_distance(x[:, ::2], y.T[:, :6].T[:, ::2], impl=i).expand(4).sum(),
            [x, y],
            dtype,
        )
        for impl, dtype in (
            ("reference", torch.float32),
            ("reference", torch.float64),
            ("fused", torch.float32),
        )
    )
    for index, gradients in enumerate(zip(fused[1], low[1], exact[1], strict=True)):
        assert_within_budget(*gradients, f"gradient {index}")


@given(n=st.integers(2, 40), m=st.integers(2, 40), dim=st.integers(1, 50), exponent=st.integers(-6, 6))
@settings(max_examples=6, derandomize=True, phases=[Phase.explicit, Phase.generate])  # shrinking costs minutes here
def test_any_shape_and_scale(n, m, dim, exponent):
    if torch.cuda.is_available():
        pytest.skip("the parametrised cases run on CUDA")
    compare(*samples(n, m, dim, "cpu", scale=10.0**exponent))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, under the interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dim", [6, 40], ids=["differences", "dots"])
def test_nan_and_infinity_come_out(fused_device, value, dim):
    x, y = samples(5, 4, dim, fused_device)
    x[2, 3] = value
    result, gradients = value_and_gradients(lambda x, y: energy_distance(x, y, impl="fused"), [x, y], torch.float32)
    assert not result.isfinite()
    assert not gradients[0][2].isfinite().all()


def test_refusals(fused_device):
    x, y = samples(3, 4, 5, fused_device)
    with pytest.raises(ValueError, match="at least 2 rows in each sample, got 0"):
        energy_distance(x[:0].float(), y.float(), impl="fused")
    with pytest.raises(ValueError, match="float64"):
        energy_distance(x, y, impl="fused")
    with pytest.raises(ValueError, match="at least 2 rows"):
        energy_distance(x[:1].float(), y.float(), impl="fused")
    with pytest.raises(ValueError, match="1025"):
        energy_distance(
            torch.zeros(2, 1025, device=fused_device), torch.zeros(2, 1025, device=fused_device), impl="fused"
        )
