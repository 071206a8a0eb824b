"""Every fused operation is registered with torch, compiles as one graph, has one derivative and repeatable bits."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from fused_budget import critic_inputs

from ungan_dist.data.examples import make_normalisation_table
from ungan_dist.kernels import (
    cramer_surrogate,
    critic_loss,
    critic_sgd_step,
    energy_distance,
    energy_distance_1d,
    find_obstacle,
    gather_augmented,
    generator_loss,
    gradient_penalty,
    log_odds,
)
from ungan_dist.kernels.impl import FUSED

SHAPE = (5, 6, (7, 9, 11))

# The interpreter's numpy warns of log 0 in padding rows of log_odds, which are not stored.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def operations(device):
    """By name: the public call of its differentiable inputs, these inputs, and how many of them come first."""
    weights, batches, epsilon = critic_inputs(*SHAPE, device=device)
    weights, batches, epsilon = [w.float() for w in weights], [z.float() for z in batches], epsilon.float()
    images = torch.arange(4 * 5 * 3 * 2, dtype=torch.uint8, device=device).view(4, 5, 3, 2)
    table = make_normalisation_table((0.5, 0.4), (0.2, 0.3)).to(device)
    labels = torch.tensor([0, 2, 1, 5, 3], device=device)

    def step():
        changed = [weight.clone() for weight in weights]
        loss = critic_sgd_step(changed, *batches, epsilon, learning_rate=0.1, impl="fused")
        return torch.cat([loss.view(1), *(weight.flatten() for weight in changed)])

    return {
        "critic_loss": (lambda *w: critic_loss(w, *batches, epsilon, impl="fused"), weights),
        "critic_sgd_step": (step, []),
        "gradient_penalty": (lambda *w: gradient_penalty(w, *batches, epsilon, impl="fused"), weights),
        "generator_loss": (lambda *t: generator_loss(t[:6], *t[6:], impl="fused"), [*weights, *batches]),
        "cramer_surrogate": (lambda *h: cramer_surrogate(*h, impl="fused"), batches),
        "energy_distance": (lambda x, y: energy_distance(x, y, impl="fused"), batches[:2]),
        "energy_distance_1d": (
            lambda x, y: energy_distance_1d(x[:, 0], y[:, 0], labels % 2, labels % 2, num_groups=2, impl="fused").sum(),
            [batches[0][:, :1].clone(), batches[1][:, :1].clone()],
        ),
        "gather_augmented": (
            lambda: gather_augmented(images, labels % 4, table, seed=3, epoch=2, padding=1, flip=True, impl="fused"),
            [],
        ),
        "log_odds": (lambda: log_odds(torch.stack(batches), labels, impl="fused"), []),
    }


def test_an_interpreter_that_fails_is_an_obstacle(monkeypatch):
    triton = pytest.importorskip("triton")
    logits, labels = torch.zeros(1, 2, 3), torch.zeros(2, dtype=torch.int64)
    if not triton.knobs.runtime.interpret:
        pytest.skip("the interpreter is off")
    monkeypatch.setattr(triton, "__version__", "3.6.0")
    monkeypatch.setattr(np, "__version__", "2.3.5")
    assert find_obstacle("log_odds", "cpu") is None
    monkeypatch.setattr(np, "__version__", "2.4.0")
    with pytest.raises(
        ValueError, match=r"fails with NumPy 2\.4\.0: install Triton 3\.7 or newer, or NumPy below 2\.4"
    ):
        log_odds(logits, labels, impl="fused")


ONCE = {"check_undefined_grad": False, "check_batched_grad": False, "nondet_tol": 0.0}
DIFFERENTIABLE = sorted(FUSED - {"critic_sgd_step", "gather_augmented", "log_odds"})


def test_every_fused_operation_is_here():
    assert set(operations("cpu")) == FUSED


@pytest.mark.parametrize("name", sorted(FUSED))
def test_same_bits_each_run(fused_device, name):
    call, inputs = operations(fused_device)[name]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    runs = []
    for _ in range(2):
        value = call(*leaves)
        runs.append([value.detach(), *(torch.autograd.grad(value, leaves) if leaves else ())])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_derivative_raises(fused_device, name):
    """It raises even if another term has a second derivative, because ignoring the fused part would be wrong."""
    call, inputs = operations(fused_device)[name]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    value = call(*leaves) + leaves[0].pow(3).sum()
    gradient = torch.autograd.grad(value, leaves[0], create_graph=True)[0]
    with pytest.raises(RuntimeError, match=r"scale_gradients|energy_distance_backward"):
        gradient.square().sum().backward()


@pytest.mark.filterwarnings("ignore:Input #:UserWarning")  # float32 it is
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradcheck(fused_device, name):
    """Of all matrices, against differences of the fused value itself, as coarse as float32 leaves them."""
    call, inputs = operations(fused_device)[name]
    leaves = [tensor.requires_grad_(tensor.ndim == 2) for tensor in inputs]
    assert torch.autograd.gradcheck(call, leaves, eps=1e-2, atol=3e-2, rtol=3e-2, fast_mode=True, **ONCE)


def test_differentiating_log_odds_raises(fused_device):
    logits = torch.zeros(1, 3, 4, device=fused_device, requires_grad=True)
    value = log_odds(logits, torch.zeros(3, dtype=torch.int64, device=fused_device), impl="fused").sum()
    with pytest.raises(RuntimeError, match="log_odds"):
        value.backward()


def registered(device):
    """Each custom operation with arguments as the public function passes them."""
    from ungan_dist.kernels import gradients
    from ungan_dist.kernels.augment import fused as augment
    from ungan_dist.kernels.critic import fused as critic
    from ungan_dist.kernels.energy_distance import fused as energy
    from ungan_dist.kernels.energy_distance import fused_groups as groups
    from ungan_dist.kernels.log_odds import fused as odds

    weights, batches, epsilon = critic_inputs(3, 4, (5, 6, 7), device=device)
    plain = [weight.float() for weight in weights]
    leaves = [weight.clone().requires_grad_() for weight in plain]
    rows = [z.float() for z in batches]
    alive = [z.clone().requires_grad_() for z in rows]
    images = torch.arange(4 * 5 * 3 * 2, dtype=torch.uint8, device=device).view(4, 5, 3, 2)
    indices = torch.tensor([0, 3, 1], device=device)
    table = make_normalisation_table((0.5, 0.4), (0.2, 0.3)).to(device)
    arriving = torch.tensor(2.0, device=device)
    return {
        "critic_loss": (critic.critic_loss, (*leaves, *rows, epsilon.float(), True, True, -1.0, 10.0, 4, "ieee", True)),
        "critic_sgd_step": (
            critic.critic_sgd_step,
            (*plain, *rows, epsilon.float(), True, True, -1.0, 10.0, 4, "ieee", 0.1, 0.01),
        ),
        "generator_loss": (critic.generator_loss, (*leaves, *alive, "ieee", True, True)),
        "cramer_surrogate": (critic.cramer_surrogate, tuple(alive)),
        "energy_distance": (energy.energy_distance, (*alive[:2], True, "ieee")),
        "energy_distance_1d": (
            groups.energy_distance_1d,
            (alive[0][:, 0].detach().requires_grad_(), alive[1][:, 0].detach().requires_grad_(), indices, indices, 4),
        ),
        "energy_distance_backward": (energy.energy_distance_backward, (arriving, *rows[:2], True, "ieee")),
        "scale_gradients": (gradients.scale_gradients, (arriving, rows[0], [rows[1]])),
        "gather_augmented": (augment.gather_augmented, (images, indices, table, 3, 2, 1, True, torch.float16)),
        "log_odds": (odds.log_odds, (torch.stack(rows), indices)),
    }


@pytest.mark.parametrize("name", sorted(FUSED - {"gradient_penalty"} | {"energy_distance_backward", "scale_gradients"}))
def test_opcheck(fused_device, name):
    """All but ``test_aot_dispatch_dynamic``, which differentiates through the operation; the graph's test covers it."""
    operation, arguments = registered(fused_device)[name]
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(operation, arguments, test_utils=tests)


ONE_GRAPH = """
import sys
import warnings
sys.path[:0] = ["tests/unit/kernels", "tests/helpers"]
import torch
from test_fused_contract import operations
warnings.simplefilter("ignore")
device = "cuda" if torch.cuda.is_available() else "cpu"
for name in operations(device):
    call, inputs = operations(device)[name]
    leaves = [tensor.requires_grad_() for tensor in inputs]
    results = []
    for function in (call, torch.compile(call, fullgraph=True, backend="aot_eager")):
        value = function(*leaves)
        results.append([value.detach(), *(torch.autograd.grad(value, leaves) if leaves else ())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)), name
    torch._dynamo.reset()
    print(name)
"""


@pytest.mark.process
def test_each_compiles_as_one_graph(fused_device):
    """Run in its own process, because jaxtyping's import hook breaks ``fullgraph``."""
    environment = os.environ | ({} if fused_device == "cuda" else {"TRITON_INTERPRET": "1"})
    done = subprocess.run([sys.executable, "-c", ONE_GRAPH], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == FUSED
