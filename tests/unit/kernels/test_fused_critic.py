"""The fused critic's loss against float64, edge cases, and refusals."""

from __future__ import annotations

import pytest
import torch
from fused_budget import assert_within_budget, compare_fused, critic_inputs, value_and_gradients
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ungan_dist.kernels import CriticOptions, critic_loss, gradient_penalty


def loss(weights, batches, epsilon, impl, **options):
    dtype = weights[0].dtype
    rows = (z.to(dtype) for z in (*batches, epsilon))
    return critic_loss(weights, *rows, CriticOptions(**options), impl=impl)


@pytest.mark.parametrize("penalty", ["squared", "as_written"])
@pytest.mark.parametrize("penalty_of", ["critic", "embedding_sum"])
@pytest.mark.parametrize(
    ("batch", "features", "widths"),
    [(1, 2, (1, 3, 2)), (16, 32, (32, 32, 32)), (17, 20, (33, 31, 65))],
    ids=["tiny", "on the edges", "off the edges"],
)
def test_critic_loss(fused_device, penalty, penalty_of, batch, features, widths):
    weights, batches, epsilon = critic_inputs(batch, features, widths, device=fused_device)
    compare_fused(
        lambda impl, *w: loss(w, batches, epsilon, impl, penalty=penalty, penalty_of=penalty_of), weights, magnitude=1.0
    )


def test_many_spans_of_rows(fused_device):
    """5 × 60 stacked rows are three spans, whose partial gradients are added."""
    weights, batches, epsilon = critic_inputs(60, 4, (5, 6, 7), device=fused_device)
    compare_fused(lambda impl, *w: loss(w, batches, epsilon, impl), weights, magnitude=1.0)


def test_labels_not_mixed(fused_device):
    weights, batches, epsilon = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    compare_fused(lambda impl, *w: loss(w, batches, epsilon, impl, mix_labels=False), weights, magnitude=1.0)


def test_strided_operands_and_a_scaled_result(fused_device):
    """Every third row or column of wider buffers, one ε for all rows (stride 0), and a gradient of 15 from above."""
    weights, batches, epsilon = critic_inputs(7, 6, (7, 9, 11), device=fused_device)
    wide = [weight.repeat_interleave(3, dim=-1) for weight in weights]
    rows = [z.repeat_interleave(3, dim=0) for z in batches]
    same = epsilon[:1].expand(7, 1)

    def function(impl, *w):
        value = loss([weight[..., ::3] for weight in w], [z[::3] for z in rows], same, impl)
        return (3 * value).expand(5).sum()

    assert not wide[0][..., ::3].is_contiguous()
    assert same.stride()[0] == 0
    compare_fused(function, wide, magnitude=15.0)


@given(
    batch=st.integers(1, 20),
    sizes=st.lists(st.integers(1, 40), min_size=4, max_size=4),
    exponent=st.integers(-6, 6),
    penalty=st.sampled_from(["squared", "as_written"]),
    penalty_of=st.sampled_from(["critic", "embedding_sum"]),
)
@settings(max_examples=6, derandomize=True, phases=[Phase.explicit, Phase.generate])  # shrinking costs minutes here
def test_any_shape_and_scale(batch, sizes, exponent, penalty, penalty_of):
    if torch.cuda.is_available():
        pytest.skip("the parametrised cases run on CUDA")
    weights, batches, epsilon = critic_inputs(batch, sizes[0], sizes[1:], scale=10.0**exponent)
    compare_fused(
        lambda impl, *w: loss(w, batches, epsilon, impl, penalty=penalty, penalty_of=penalty_of),
        weights,
        magnitude=4.0 * max(1.0, 10.0**exponent),
    )


def test_gradient_penalty(fused_device):
    weights, batches, epsilon = critic_inputs(9, 6, (7, 9, 11), device=fused_device)

    def penalty(impl, *w):
        dtype = w[0].dtype
        return gradient_penalty(w, *(z.to(dtype) for z in batches), epsilon.to(dtype), impl=impl)

    compare_fused(penalty, weights, magnitude=4.0)  # (‖∇‖ − 1)² is a difference of sums up to (‖∇‖ + 1)²


@pytest.mark.parametrize("kink", ["x_f is x'_f", "dead critic", "zero pre-activations", "all alike"])
def test_finite_on_the_kinks(fused_device, kink):
    """Derivatives at a zero norm, and of ReLU at 0, are 0 as in the reference."""
    weights, (z_u, z_f, z_f2), epsilon = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    if kink == "x_f is x'_f":
        z_f2, epsilon = z_f, torch.zeros_like(epsilon)
    elif kink == "dead critic":
        weights[3] = torch.full_like(weights[3], -100.0)
    elif kink == "zero pre-activations":
        weights[0], weights[1] = weights[0].clone(), weights[1].clone()
        weights[0][:4], weights[1][:4] = 0, 0
    else:
        z_u, z_f2, epsilon = z_f, z_f, torch.zeros_like(epsilon)  # any other ε mixes rounding in: a random direction
    fused = compare_fused(lambda impl, *w: loss(w, (z_u, z_f, z_f2), epsilon, impl), weights, magnitude=1.0)
    assert all(bool(gradient.isfinite().all()) for gradient in fused[1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, under the interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_come_out(fused_device, value):
    weights, batches, epsilon = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    batches[0][2, 3] = value
    result, gradients = value_and_gradients(lambda *w: loss(w, batches, epsilon, "fused"), weights, torch.float32)
    assert not result.isfinite()
    assert not gradients[0].isfinite().all()


def test_without_gradients_only_the_value(fused_device):
    weights, batches, epsilon = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    leaves = [weight.float().requires_grad_() for weight in weights]
    with torch.no_grad():
        value = loss(leaves, batches, epsilon, "fused")
    assert not value.requires_grad
    assert torch.equal(value, loss(leaves, batches, epsilon, "fused").detach())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty_of": "jacobian"}, "penalty_of"),
        ({"estimator": "all_pairs"}, "estimator"),
    ],
)
def test_unsupported_options_are_refused(fused_device, options, message):
    weights, batches, epsilon = critic_inputs(3, 4, (5, 6, 7), device=fused_device)
    with pytest.raises(ValueError, match=message):
        loss(weights, batches, epsilon, "fused", **options)


def test_unsupported_inputs_are_refused(fused_device):
    weights, batches, epsilon = critic_inputs(3, 4, (5, 6, 7), device=fused_device)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        loss(weights, batches, epsilon, "fused")
    single = [weight.float() for weight in weights]
    with pytest.raises(ValueError, match="detach"):
        loss(single, [z.float().requires_grad_() for z in batches], epsilon, "fused")
    with pytest.raises(ValueError, match="at least one row"):
        loss(single, [z[:0] for z in batches], epsilon[:0], "fused")
    wide, wide_batches, _ = critic_inputs(1, 4, (5, 6, 513), device=fused_device)
    with pytest.raises(ValueError, match="513"):
        loss([weight.float() for weight in wide], wide_batches, epsilon[:1], "fused")


def test_auto_reports_why_it_uses_the_reference():
    from ungan_dist.kernels import resolve

    implementation = resolve("critic_loss", "auto", torch.device("cpu"))
    assert implementation.name == "reference"
    assert "outside a run" in implementation.reason


@pytest.mark.skipif(not torch.cuda.is_available(), reason="the interpreter computes bf16 dots wrongly: CUDA only")
def test_bfloat16():
    weights, batches, epsilon = critic_inputs(64, 20, (128, 128, 128), device="cuda")
    rounded = [weight.bfloat16().double() for weight in weights]
    rounded_batches = [z.bfloat16().double() for z in batches]
    epsilon = epsilon.bfloat16().double()
    low, exact, fused = (
        value_and_gradients(lambda *w, i=impl: loss(w, rounded_batches, epsilon, i), rounded, dtype)
        for impl, dtype in (
            ("reference", torch.bfloat16),
            ("reference", torch.float64),
            ("fused", torch.bfloat16),
        )
    )
    assert_within_budget(fused[0], low[0], exact[0], "value", magnitude=1.0)
    for index, gradients in enumerate(zip(fused[1], low[1], exact[1], strict=True)):
        assert_within_budget(*gradients, f"gradient {index}")


def test_six_steps_of_the_critic(fused_device):
    """SGD as in Algorithm 2, fused and reference, from the same start."""
    weights, batches, epsilon = critic_inputs(8, 6, (7, 9, 11), device=fused_device)

    def train(impl, dtype):
        leaves = [weight.to(dtype).clone().requires_grad_() for weight in weights]
        optimizer = torch.optim.SGD(leaves, lr=1e-3, weight_decay=5e-4)
        for _ in range(6):
            optimizer.zero_grad()
            loss(leaves, batches, epsilon, impl).backward()
            optimizer.step()
        return [leaf.detach() for leaf in leaves]

    results = train("fused", torch.float32), train("reference", torch.float32), train("reference", torch.float64)
    for index, tensors in enumerate(zip(*results, strict=True)):
        assert_within_budget(*tensors, f"weight {index}")
