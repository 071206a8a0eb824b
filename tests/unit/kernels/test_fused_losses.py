"""The fused generator's loss and eq. 8: values, gradients of rows and weights, kinks."""

from __future__ import annotations

import pytest
import torch
from fused_budget import compare_fused, critic_inputs, value_and_gradients
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ungan_dist.kernels import CriticOptions, cramer_surrogate, generator_loss


def of_rows_and_weights(impl, *tensors):
    return generator_loss(tensors[:6], *tensors[6:], impl=impl)


def surrogate(impl, *embeddings):
    return cramer_surrogate(*embeddings, impl=impl)


@pytest.mark.parametrize(
    ("batch", "features", "widths"),
    [(1, 2, (1, 3, 2)), (16, 32, (32, 32, 32)), (17, 20, (33, 31, 35))],
    ids=["tiny", "on the edges", "off the edges"],
)
def test_generator_loss(fused_device, batch, features, widths):
    weights, batches, _ = critic_inputs(batch, features, widths, device=fused_device)
    compare_fused(of_rows_and_weights, [*weights, *batches], magnitude=1.0)


def test_gradients_of_the_rows_only(fused_device):
    """With D frozen, weights have no gradient and the rows' gradients are unchanged."""
    weights, batches, _ = critic_inputs(17, 6, (7, 9, 11), device=fused_device)
    compare_fused(
        lambda impl, *z: generator_loss([w.to(z[0].dtype) for w in weights], *z, impl=impl), batches, magnitude=1.0
    )


def test_strided_rows_and_a_scaled_result(fused_device):
    weights, batches, _ = critic_inputs(7, 12, (7, 9, 11), device=fused_device)
    weights[0] = weights[0][:, ::2]
    compare_fused(
        lambda impl, *t: (3 * generator_loss(t[:6], *(z[:, ::2] for z in t[6:]), impl=impl)).expand(5).sum(),
        [*weights, *batches],
        magnitude=15.0,
    )


@pytest.mark.parametrize(
    ("batch", "width"),
    [(1, 1), (16, 32), (17, 40), (300, 2)],
    ids=["tiny", "on the edges", "off the edges", "many rows"],
)
def test_cramer_surrogate(fused_device, batch, width):
    _, embeddings, _ = critic_inputs(batch, width, (1, 1, 1), device=fused_device)
    compare_fused(surrogate, embeddings, magnitude=1.0)


def test_cramer_surrogate_on_strided_rows(fused_device):
    _, embeddings, _ = critic_inputs(17, 40, (1, 1, 1), device=fused_device)
    compare_fused(lambda impl, *h: surrogate(impl, *(t[:, ::2] for t in h)), embeddings, magnitude=1.0)


@given(
    batch=st.integers(1, 20), sizes=st.lists(st.integers(1, 40), min_size=4, max_size=4), exponent=st.integers(-6, 6)
)
@settings(max_examples=5, derandomize=True, phases=[Phase.explicit, Phase.generate])  # shrinking costs minutes here
def test_any_shape_and_scale(batch, sizes, exponent):
    if torch.cuda.is_available():
        pytest.skip("the parametrised cases run on CUDA")
    weights, batches, _ = critic_inputs(batch, sizes[0], sizes[1:], scale=10.0**exponent)
    compare_fused(of_rows_and_weights, [*weights, *batches], magnitude=4.0 * max(1.0, 10.0**exponent))
    compare_fused(surrogate, batches, magnitude=4.0 * 10.0**exponent * sizes[0] ** 0.5)


@pytest.mark.parametrize("kink", ["z_f is z'_f", "z_u is z_f", "dead critic", "all alike"])
def test_the_generators_kinks(fused_device, kink):
    weights, (z_u, z_f, z_f2), _ = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    if kink == "z_f is z'_f":
        z_f2 = z_f
    elif kink == "z_u is z_f":
        z_u = z_f
    elif kink == "dead critic":
        weights[3] = torch.full_like(weights[3], -100.0)
    else:
        z_u, z_f2 = z_f, z_f
    # gradients of size 1 cancel here, down to 0
    fused = compare_fused(of_rows_and_weights, [*weights, z_u, z_f, z_f2], magnitude=1.0, gradient_magnitude=1.0)
    assert all(bool(gradient.isfinite().all()) for gradient in fused[1])
    if kink == "all alike":
        assert all(not gradient.any() for gradient in fused[1])


def test_a_norm_of_zero_has_the_subgradient_zero(fused_device):
    """With rows at the origin or equal rows, only the gradients of the other terms of eq. 8 remain."""
    _, (h_u, h_f, h_f2), _ = critic_inputs(3, 5, (1, 1, 1), device=fused_device)
    h_u[0], h_f[0], h_f2[0] = 0, 0, 0
    h_f2[1] = h_f[1]
    _, (of_unseen, of_forget, of_forget2) = compare_fused(surrogate, [h_u, h_f, h_f2], magnitude=1.0)
    assert not torch.stack([of_unseen[0], of_forget[0], of_forget2[0]]).any()
    torch.testing.assert_close(of_forget[1].double(), h_f[1] / h_f[1].norm() / 3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, under the interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_come_out(fused_device, value):
    weights, batches, _ = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    batches[0][2, 3] = value
    for function, inputs in ((of_rows_and_weights, [*weights, *batches]), (surrogate, batches)):
        result, gradients = value_and_gradients(lambda *t, f=function: f("fused", *t), inputs, torch.float32)
        assert not result.isfinite()
        assert not gradients[-3][2].isfinite().all()


def test_refusals(fused_device):
    weights, batches, _ = critic_inputs(3, 4, (5, 6, 7), device=fused_device)
    single, rows = [weight.float() for weight in weights], [z.float() for z in batches]
    with pytest.raises(ValueError, match="at least one row"):
        generator_loss(single, *(z[:0] for z in rows), impl="fused")
    with pytest.raises(ValueError, match="at least one row"):
        cramer_surrogate(*(z[:0] for z in rows), impl="fused")
    with pytest.raises(ValueError, match="float64"):
        generator_loss(single, *batches, impl="fused")
    with pytest.raises(ValueError, match=r"cannot run generator_loss.*all_pairs.*use impl='reference'"):
        generator_loss(single, *rows, CriticOptions(estimator="all_pairs"), impl="fused")
