"""The fused adversarial losses against float64, at the edges, and where they must refuse."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ungan_dist.kernels import cramer_surrogate, critic_loss, generator_loss, gradient_penalty
from ungan_dist.kernels.testing import (
    assert_within_budget,
    critic_inputs,
    guarded_buffers,
    low_precision_errors,
    value_and_gradients,
)


def loss(weights, batches, epsilon, impl, **options):
    dtype = weights[0].dtype
    settings = {"penalty": "squared", "penalty_of": "critic", "penalty_weight": 10.0} | options
    return critic_loss(weights, *(z.to(dtype) for z in batches), epsilon.to(dtype), impl=impl, **settings)


def compare(function, inputs, *, magnitude=1.0):
    """``function(impl, *inputs)``: value and every gradient, fused in guarded buffers, within the budget."""
    low, exact = (
        value_and_gradients(lambda *leaves: function("reference", *leaves), inputs, dtype)
        for dtype in (torch.float32, torch.float64)
    )
    with guarded_buffers():
        fused = value_and_gradients(lambda *leaves: function("fused", *leaves), inputs, torch.float32)
    errors = low_precision_errors(lambda *leaves: function("reference", *leaves), inputs, torch.float32)
    assert_within_budget(fused[0], low[0], exact[0], "value", magnitude=magnitude, low_error=errors[0])
    for index, gradients in enumerate(zip(fused[1], low[1], exact[1], strict=True)):
        assert_within_budget(*gradients, f"gradient {index}", low_error=errors[index + 1])
    return fused


@pytest.mark.parametrize("penalty", ["squared", "as_written"])
@pytest.mark.parametrize("penalty_of", ["critic", "embedding_sum"])
@pytest.mark.parametrize(
    ("batch", "features", "widths"),
    [(1, 2, (1, 3, 2)), (16, 32, (32, 32, 32)), (17, 20, (33, 31, 65))],
    ids=["tiny", "on the edges", "off the edges"],
)
def test_critic_loss(fused_device, penalty, penalty_of, batch, features, widths):
    weights, batches, epsilon = critic_inputs(batch, features, widths, device=fused_device)
    compare(lambda impl, *w: loss(w, batches, epsilon, impl, penalty=penalty, penalty_of=penalty_of), weights)


def test_many_spans_of_rows(fused_device):
    """5 × 60 stacked rows are three spans, whose partial gradients are added."""
    weights, batches, epsilon = critic_inputs(60, 4, (5, 6, 7), device=fused_device)
    compare(lambda impl, *w: loss(w, batches, epsilon, impl), weights)


def test_labels_not_mixed(fused_device):
    weights, batches, epsilon = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    compare(lambda impl, *w: loss(w, batches, epsilon, impl, mix_labels=False), weights)


@given(
    batch=st.integers(1, 20),
    sizes=st.lists(st.integers(1, 40), min_size=4, max_size=4),
    exponent=st.integers(-6, 6),
)
@settings(max_examples=6, derandomize=True, phases=[Phase.explicit, Phase.generate])  # shrinking costs minutes here
def test_any_shape_and_scale(batch, sizes, exponent):
    if torch.cuda.is_available():
        pytest.skip("the parametrised cases run on CUDA")
    weights, batches, epsilon = critic_inputs(batch, sizes[0], sizes[1:], scale=10.0**exponent)
    low, exact = (
        value_and_gradients(lambda *w: loss(w, batches, epsilon, "reference"), weights, dtype)
        for dtype in (torch.float32, torch.float64)
    )
    fused = value_and_gradients(lambda *w: loss(w, batches, epsilon, "fused"), weights, torch.float32)
    assert_within_budget(fused[0], low[0], exact[0], "value", magnitude=4.0 * max(1.0, 10.0**exponent))
    # One draw of the reference's own error says little at a random shape: room for a handful of roundings.
    largest = 8 * max(float(gradient.abs().max()) for gradient in exact[1])
    for index, gradients in enumerate(zip(fused[1], low[1], exact[1], strict=True)):
        assert_within_budget(*gradients, f"gradient {index}", magnitude=largest)


def test_gradient_penalty(fused_device):
    weights, batches, epsilon = critic_inputs(9, 6, (7, 9, 11), device=fused_device)
    options = {"penalty": "squared", "penalty_of": "critic"}

    def penalty(impl, *w):
        dtype = w[0].dtype
        return gradient_penalty(w, *(z.to(dtype) for z in batches), epsilon.to(dtype), impl=impl, **options)

    compare(penalty, weights, magnitude=4.0)  # (‖∇‖ − 1)² is a difference of sums up to (‖∇‖ + 1)²


def test_generator_loss(fused_device):
    weights, batches, _ = critic_inputs(17, 20, (33, 31, 35), device=fused_device)
    compare(lambda impl, *tensors: generator_loss(tensors[:6], *tensors[6:], impl=impl), [*weights, *batches])


def test_cramer_surrogate_on_strided_rows(fused_device):
    _, (h_u, h_f, h_f2), _ = critic_inputs(17, 40, (1, 1, 1), device=fused_device)
    compare(lambda impl, *h: cramer_surrogate(*(t[:, ::2] for t in h), impl=impl), [h_u, h_f, h_f2])


@pytest.mark.parametrize("kink", ["x_f is x'_f", "dead critic", "zero pre-activations", "all alike"])
def test_finite_on_the_kinks(fused_device, kink):
    """Every derivative at a zero norm is 0, and so is ReLU's at 0: what the reference states."""
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
    fused = compare(lambda impl, *w: loss(w, (z_u, z_f, z_f2), epsilon, impl), weights)
    assert all(bool(gradient.isfinite().all()) for gradient in fused[1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, under the interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_come_out(fused_device, value):
    weights, batches, epsilon = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    batches[0][2, 3] = value
    result, gradients = value_and_gradients(lambda *w: loss(w, batches, epsilon, "fused"), weights, torch.float32)
    assert not result.isfinite()
    assert not gradients[0].isfinite().all()


def test_same_bits_each_run(fused_device):
    weights, batches, epsilon = critic_inputs(60, 6, (7, 9, 11), device=fused_device)
    first, second = (
        value_and_gradients(lambda *w: loss(w, batches, epsilon, "fused"), weights, torch.float32) for _ in range(2)
    )
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


def test_second_derivative_raises(fused_device):
    """Also where another term has one: dropping the fused part in silence would be a wrong number."""
    weights, batches, epsilon = critic_inputs(3, 4, (5, 5, 5), device=fused_device)
    leaves = [weight.float().requires_grad_() for weight in weights]
    value = loss(leaves, batches, epsilon, "fused") + leaves[0].pow(3).sum()
    gradient = torch.autograd.grad(value, leaves[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match="scale_gradients"):
        gradient.square().sum().backward()


def test_without_gradients_only_the_value(fused_device):
    weights, batches, epsilon = critic_inputs(5, 6, (7, 9, 11), device=fused_device)
    leaves = [weight.float().requires_grad_() for weight in weights]
    with torch.no_grad():
        value = loss(leaves, batches, epsilon, "fused")
    assert not value.requires_grad
    assert torch.equal(value, loss(leaves, batches, epsilon, "fused").detach())


def test_opcheck(fused_device):
    from ungan_dist.kernels.critic import fused

    weights, batches, epsilon = critic_inputs(3, 4, (5, 6, 7), device=fused_device)
    leaves = [weight.float().requires_grad_() for weight in weights]
    arguments = (*leaves, *(z.float() for z in batches), epsilon.float())
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(fused.critic_loss, (*arguments, True, True, -1.0, 10.0, 4, "ieee", True), test_utils=tests)
    torch.library.opcheck(fused.generator_loss, (*arguments[:9], "ieee", True, True), test_utils=tests)


ONE_GRAPH = """
import torch
from ungan_dist.kernels import critic_loss
from ungan_dist.kernels.testing import critic_inputs, value_and_gradients
device = "cuda" if torch.cuda.is_available() else "cpu"
weights, batches, epsilon = critic_inputs(3, 4, (5, 6, 7), device=device)
batches, epsilon = [z.float() for z in batches], epsilon.float()
options = dict(penalty="squared", penalty_of="critic", penalty_weight=10.0, impl="fused")
eager = lambda *w: critic_loss(w, *batches, epsilon, **options)
compiled = torch.compile(eager, fullgraph=True, backend="aot_eager")
(a, da), (b, db) = (value_and_gradients(function, weights, torch.float32) for function in (eager, compiled))
assert torch.equal(a, b) and all(torch.equal(x, y) for x, y in zip(da, db))
"""


def test_compiles_as_one_graph(fused_device):
    """In a process of its own: jaxtyping's import hook breaks ``fullgraph``."""
    environment = os.environ | ({} if fused_device == "cuda" else {"TRITON_INTERPRET": "1"})
    done = subprocess.run([sys.executable, "-c", ONE_GRAPH], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty_of": "jacobian"}, "penalty_of"),
        ({"estimator": "all_pairs"}, "estimator"),
    ],
)
def test_refuses_what_it_cannot_do(fused_device, options, message):
    weights, batches, epsilon = critic_inputs(3, 4, (5, 6, 7), device=fused_device)
    with pytest.raises(ValueError, match=message):
        loss(weights, batches, epsilon, "fused", **options)


def test_refuses_other_inputs(fused_device):
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


def test_auto_says_why_it_is_the_reference():
    from ungan_dist.kernels import resolve

    implementation = resolve("critic_loss", "auto", torch.device("cpu"))
    assert implementation.name == "reference"
    assert "verified" in implementation.reason


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


def test_twenty_steps_of_the_critic(fused_device):
    """SGD as in Algorithm 2, fused and reference, from the same start."""
    weights, batches, epsilon = critic_inputs(8, 6, (7, 9, 11), device=fused_device)

    def train(impl, dtype):
        leaves = [weight.to(dtype).clone().requires_grad_() for weight in weights]
        optimizer = torch.optim.SGD(leaves, lr=1e-3, weight_decay=5e-4)
        for _ in range(20):
            optimizer.zero_grad()
            loss(leaves, batches, epsilon, impl).backward()
            optimizer.step()
        return [leaf.detach() for leaf in leaves]

    results = train("fused", torch.float32), train("reference", torch.float32), train("reference", torch.float64)
    for index, tensors in enumerate(zip(*results, strict=True)):
        assert_within_budget(*tensors, f"weight {index}")
