"""Compare UnGAN with a second implementation of Algorithms 1–4, and with its variants."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import pytest
import torch
from batch_order import cycle_batches
from torch import Tensor, nn
from ungan_request import BATCH, CLASSES, SEED, SMALL, flatten_state, make_config, make_request

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.data.examples import gather
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request
from ungan_dist.methods.ungan.algorithm import ungan
from ungan_dist.methods.ungan.critic_network import init_critic


def algorithm_1(given: Request, config: UnGANConfig) -> tuple[nn.Module, dict[str, list[float]]]:
    """Run the default variant step by step with torch's layers, explicit optimizers, plain norms and no cache."""
    data = given.data
    teacher, student = copy.deepcopy(given.original), copy.deepcopy(given.original).requires_grad_()
    names = ["forget", "forget 2", "unseen", "retain"]
    sets = {"forget": given.forget, "forget 2": given.forget, "unseen": given.unseen, "retain": given.retain}
    streams = {name: cycle_batches(sets[name], BATCH, seed=derive_seed("ungan", name, given.seed)) for name in names}
    widths = (2 * CLASSES, *config.critic_widths)
    layers = [nn.Linear(a, b).double() for a, b in itertools.pairwise(widths)]
    d = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    initial = init_critic(
        CLASSES,
        config.critic_widths,
        seed=derive_seed("ungan critic", given.seed),
        dtype=torch.float64,
        device=torch.device("cpu"),
    )
    with torch.no_grad():
        for parameter, value in zip(d.parameters(), initial, strict=True):
            parameter.copy_(value)

    def next_of(name: str, net: nn.Module) -> Tensor:
        _, indices = next(streams[name])
        one_hot = torch.eye(CLASSES, dtype=torch.float64)[data.labels[indices]]
        return torch.cat([net(gather(data, indices)), one_hot], dim=1)

    weights = list(student.parameters())
    m, v = ([torch.zeros_like(w) for w in weights] for _ in range(2))
    adam_steps, critic_steps = 0, 0

    def adam(loss: Tensor) -> None:
        nonlocal adam_steps
        adam_steps += 1
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
                g = g + config.weight_decay * w
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + 0.001 * g * g
                first, second = m[i] / (1 - 0.9**adam_steps), v[i] / (1 - 0.999**adam_steps)
                w -= config.learning_rate * first / (second.sqrt() + 1e-8)

    def norm(x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(x, dim=1)

    curves: dict[str, list[float]] = {"critic": [], "generator": [], "fine_tuning": []}
    for _ in range(2):
        seen: dict[str, list[float]] = {name: [] for name in curves}
        student.eval()
        for _ in range(2):
            z_u, z_f, z_f2 = next_of("unseen", teacher), next_of("forget", student), next_of("forget 2", student)
            z_f, z_f2 = z_f.detach(), z_f2.detach()
            rng = torch.Generator().manual_seed(derive_seed("ungan epsilon", given.seed, critic_steps))
            epsilon = torch.rand(BATCH, 1, generator=rng, dtype=torch.float64)
            critic_steps += 1
            z = (epsilon * z_u + (1 - epsilon) * z_f).requires_grad_()
            surrogate = norm(d(z_u) - d(z_f2)) - norm(d(z_u)) - (norm(d(z_f) - d(z_f2)) - norm(d(z_f)))
            f = norm(d(z) - d(z_f2)) - norm(d(z))
            (slope,) = torch.autograd.grad(f.sum(), z, create_graph=True)
            loss = -surrogate.mean() + 10 * ((norm(slope) - 1) ** 2).mean()
            gradients = torch.autograd.grad(loss, list(d.parameters()))
            with torch.no_grad():
                for w, g in zip(d.parameters(), gradients, strict=True):
                    w -= config.critic_learning_rate * (g + config.critic_weight_decay * w)
            seen["critic"].append(loss.item())
        for _ in range(2):
            z_u, z_f, z_f2 = next_of("unseen", teacher), next_of("forget", student), next_of("forget 2", student)
            loss = (norm(d(z_u) - d(z_f)) + norm(d(z_u) - d(z_f2)) - norm(d(z_f) - d(z_f2))).mean()
            adam(loss)
            seen["generator"].append(loss.item())
        student.train()
        for _ in range(3):
            epoch, indices = next(streams["retain"])
            seed = derive_seed("ungan augment", "retain", given.seed)
            images = gather(data, indices, augment=given.train.augment, seed=seed, epoch=epoch)
            p, q = student(images).softmax(1), teacher(images).softmax(1)
            cross_entropy = -p[torch.arange(BATCH), data.labels[indices]].log().mean()
            loss = cross_entropy / 16 + (p * (p / q).log()).sum(1).mean() / 32
            adam(loss)
            seen["fine_tuning"].append(loss.item())
        for name, values in seen.items():
            curves[name].append(sum(values) / len(values))
    return student, curves


def test_ungan_equals_algorithm_1_step_by_step() -> None:
    given = make_request()
    ours = ungan(given, SMALL)
    theirs, curves = algorithm_1(given, SMALL)
    for name, expected in theirs.state_dict().items():
        torch.testing.assert_close(ours.model.state_dict()[name], expected, rtol=1e-10, atol=1e-10)
    for name, expected in curves.items():
        assert ours.curves[name] == pytest.approx(expected, rel=1e-10)
    assert list(ours.curves) == list(curves)


@pytest.mark.parametrize(
    "fields",
    [
        {"penalty": "as_written"},
        {"penalty_of": "embedding_sum"},
        {"penalty_of": "embedding_norm"},
        {"penalty_of": "jacobian"},
        {"penalty_weight": 1.0},
        {"epsilon_per": "batch"},
        {"mix_labels": False},
        {"estimator": "all_pairs"},
        {"surrogate": "energy"},
        {"critic_input": "softmax"},
        {"inclusive_loops": True},
        {"optimizers": "separate"},
        {"kl_direction": "teacher_first"},
        {"batch_norm": "train"},
        {"augment_adversarial": True},
        {"critic_widths": (8, 7, 5)},
        {"critic_learning_rate": 0.01},
        {"critic_weight_decay": 0.1},
        {"learning_rate": 1e-3},
        {"weight_decay": 1e-2},
        {"alpha": 0.5},
        {"gamma": 0.5},
        {"batch_size": 5},
    ],
    ids=lambda fields: "-".join(map(str, next(iter(fields.items())))),
)
def test_every_variant_changes_the_result(fields: dict[str, Any], default: Tensor) -> None:
    result = flatten_state(ungan(make_request(), make_config(**fields)))
    assert result.isfinite().all()
    assert (result - default).abs().max() > 1e-9


def test_energy_over_all_pairs_differs_from_the_other_variants(default: Tensor) -> None:
    results = [default] + [
        flatten_state(ungan(make_request(), make_config(estimator=estimator, surrogate=surrogate)))
        for estimator, surrogate in [("all_pairs", "cramer"), ("paired", "energy"), ("all_pairs", "energy")]
    ]
    assert min((a - b).abs().max() for i, a in enumerate(results) for b in results[:i]) > 1e-9


def test_ungan_is_repeatable_after_other_draws(default: Tensor) -> None:
    torch.rand(5)
    before = torch.random.get_rng_state()
    assert torch.equal(flatten_state(ungan(make_request(), SMALL)), default)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(flatten_state(ungan(make_request(seed=SEED + 1), SMALL)), default)


def test_the_original_and_the_data_are_unchanged() -> None:
    given = make_request()
    before = copy.deepcopy(given)
    unlearned = ungan(given, make_config(batch_norm="train"))
    for net in ("original", "fresh"):
        now, then = (getattr(asked, net).state_dict() for asked in (given, before))
        assert all(torch.equal(now[name], then[name]) for name in then)
    assert torch.equal(given.data.images, before.data.images)
    assert not given.original.training
    assert not any(p.requires_grad or p.grad is not None for p in given.original.parameters())
    assert not unlearned.model.training
    assert all(p.requires_grad for p in unlearned.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_tensor_has_the_dtype_of_the_table(dtype: torch.dtype) -> None:
    state = ungan(make_request(dtype), make_config(surrogate="energy", critic_input="softmax")).model.state_dict()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {dtype}


def test_curves_have_one_mean_per_round() -> None:
    curves = ungan(make_request(), SMALL).curves
    assert {name: len(curve) for name, curve in curves.items()} == {"critic": 2, "generator": 2, "fine_tuning": 2}
    assert all(math.isfinite(value) for curve in curves.values() for value in curve)


@pytest.mark.parametrize("name", ["retain", "forget", "unseen"])
def test_an_empty_set_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* is empty"):
        ungan(make_request(**{name: torch.arange(0)}), SMALL)
