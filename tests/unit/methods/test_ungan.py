"""UnGAN against Algorithms 1–4 written out a second time, its readings and its two controls."""

from __future__ import annotations

import copy
import itertools
import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.config.training import AugmentConfig, TrainConfig
from ungan_dist.data.examples import Examples, cycle_batches, gather, make_normalisation_table
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.methods.ungan.algorithm import count_steps, critic_step, fine_tuning_step, generator_step, ungan
from ungan_dist.methods.ungan.critic_network import build_critic_input, init_critic
from ungan_dist.methods.ungan.sampler import Sampler
from ungan_dist.training.models import frozen_copy
from ungan_dist.training.world import World

CLASSES, BATCH, SEED = 3, 4, 7
SMALL = UnGANConfig(
    epochs=2, critic_steps=2, generator_steps=2, finetune_steps=3, critic_widths=(8, 7, 6), critic_learning_rate=0.05
)


def model(dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, CLASSES))
        layers.to(dtype)(3 * torch.randn(64, 1, 6, 6, dtype=dtype))  # running statistics unlike the initial ones
    return layers


def request(dtype: torch.dtype = torch.float64, **changes: Any) -> Request:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (40, 6, 6, 1), dtype=torch.uint8, generator=generator)
    fields: dict[str, Any] = {
        "original": frozen_copy(model(dtype)),
        "fresh": model(dtype),
        "data": Examples(
            images=images,
            labels=torch.randint(0, CLASSES, (40,), generator=generator),
            table=make_normalisation_table((0.5,), (0.25,), dtype),
            num_classes=CLASSES,
        ),
        "retain": torch.arange(0, 20),
        "forget": torch.arange(20, 29),
        "unseen": torch.arange(29, 40),
        "train": TrainConfig(batch_size=BATCH, augment=AugmentConfig(padding=1, flip=True)),
        "seed": SEED,
        "world": World(),
    }
    return Request(**{**fields, **changes})


def changed(**fields: Any) -> UnGANConfig:
    return UnGANConfig(**{**{name: getattr(SMALL, name) for name in SMALL.__dataclass_fields__}, **fields})


def parameters(unlearned: Unlearned) -> Tensor:
    return torch.cat([value.flatten().double() for value in unlearned.model.state_dict().values()])


def algorithm_1(given: Request, config: UnGANConfig) -> tuple[nn.Module, dict[str, list[float]]]:
    """The default reading step by step: torch's own layers, optimizers by hand, plain norms, nothing cached."""
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


def test_it_is_algorithm_1_written_out() -> None:
    given = request()
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
def test_every_reading_leads_elsewhere(fields: dict[str, Any], default: Tensor) -> None:
    result = parameters(ungan(request(), changed(**fields)))
    assert result.isfinite().all()
    assert (result - default).abs().max() > 1e-9


def test_energy_over_all_pairs_is_a_reading_of_its_own(default: Tensor) -> None:
    results = [default] + [
        parameters(ungan(request(), changed(estimator=estimator, surrogate=surrogate)))
        for estimator, surrogate in [("all_pairs", "cramer"), ("paired", "energy"), ("all_pairs", "energy")]
    ]
    assert min((a - b).abs().max() for i, a in enumerate(results) for b in results[:i]) > 1e-9


@pytest.fixture(scope="module")
def default() -> Tensor:
    return parameters(ungan(request(), SMALL))


def test_it_repeats_itself_whatever_was_drawn_before(default: Tensor) -> None:
    torch.rand(5)
    before = torch.random.get_rng_state()
    assert torch.equal(parameters(ungan(request(), SMALL)), default)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(parameters(ungan(request(seed=SEED + 1), SMALL)), default)


def test_the_original_and_the_data_stay_as_they_were() -> None:
    given = request()
    before = copy.deepcopy(given)
    unlearned = ungan(given, changed(batch_norm="train"))
    for net in ("original", "fresh"):
        now, then = (getattr(asked, net).state_dict() for asked in (given, before))
        assert all(torch.equal(now[name], then[name]) for name in then)
    assert torch.equal(given.data.images, before.data.images)
    assert not given.original.training
    assert not any(p.requires_grad or p.grad is not None for p in given.original.parameters())
    assert not unlearned.model.training
    assert all(p.requires_grad for p in unlearned.model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_tensor_keeps_the_type_of_the_table(dtype: torch.dtype) -> None:
    state = ungan(request(dtype), changed(surrogate="energy", critic_input="softmax")).model.state_dict()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {dtype}


def steps() -> tuple[Request, nn.Module, list[Tensor], Sampler]:
    given = request()
    critic = init_critic(CLASSES, (8, 7, 6), seed=0, dtype=torch.float64, device=torch.device("cpu"))
    return given, copy.deepcopy(given.original).requires_grad_(), critic, Sampler(given, SMALL)


def test_a_critic_step_moves_the_critic_alone() -> None:
    _, generator, critic, draws = steps()
    before = copy.deepcopy(generator.state_dict()), [weight.detach().clone() for weight in critic]
    critic_step(critic, generator, draws, torch.optim.SGD(critic, lr=0.1), SMALL)
    assert all(torch.equal(value, before[0][name]) for name, value in generator.state_dict().items())
    assert all(parameter.grad is None for parameter in generator.parameters())
    assert not any(torch.equal(weight, then) for weight, then in zip(critic, before[1], strict=True))


def test_a_generator_step_leaves_the_critic_as_it_was() -> None:
    _, generator, critic, draws = steps()
    before = copy.deepcopy(generator.state_dict()), [weight.detach().clone() for weight in critic]
    generator_step(critic, generator, draws, torch.optim.SGD(generator.parameters(), lr=0.1))
    assert all(torch.equal(weight, then) for weight, then in zip(critic, before[1], strict=True))
    assert all(weight.grad is None for weight in critic)
    assert not torch.equal(generator.state_dict()["0.weight"], before[0]["0.weight"])


def test_fine_tuning_follows_the_direction_of_the_divergence_that_was_asked_for() -> None:
    for direction in ("student_first", "teacher_first"):
        given, generator, _, draws = steps()
        with torch.no_grad():
            next(generator.parameters()).mul_(1.5)
        _, indices = next(cycle_batches(given.retain, BATCH, seed=derive_seed("ungan", "retain", SEED)))
        seed = derive_seed("ungan augment", "retain", SEED)
        images = gather(given.data, indices, augment=given.train.augment, seed=seed)
        p, q = generator(images).softmax(1), given.original(images).softmax(1)
        a, b = (p, q) if direction == "student_first" else (q, p)
        loss = fine_tuning_step(
            generator,
            given.original,
            draws,
            torch.optim.SGD(generator.parameters(), lr=0.1),
            changed(alpha=0.0, gamma=1.0, kl_direction=direction),
        )
        assert loss.item() == pytest.approx((a * (a / b).log()).sum(1).mean().item(), rel=1e-10)


def captured_critic(monkeypatch: pytest.MonkeyPatch, config: UnGANConfig) -> tuple[list[Tensor], list[Tensor]]:
    """The critic as initialised, and after a run."""
    made: list[list[Tensor]] = []

    def spy(*args: Any, **kwargs: Any) -> list[Tensor]:
        made.append(init_critic(*args, **kwargs))
        return made[-1]

    with monkeypatch.context() as patch:
        # By its module's key: the attribute ungan_dist.methods.ungan is the function of that name.
        patch.setattr(sys.modules[ungan.__module__], "init_critic", spy)
        ungan(request(), config)
    initial = init_critic(
        CLASSES,
        config.critic_widths,
        seed=derive_seed("ungan critic", SEED),
        dtype=torch.float64,
        device=torch.device("cpu"),
    )
    return initial, made[0]


def test_the_random_critic_control_leaves_the_critic_as_initialised(
    monkeypatch: pytest.MonkeyPatch, default: Tensor
) -> None:
    control = changed(critic_steps=0)
    initial, final = captured_critic(monkeypatch, control)
    assert all(torch.equal(a, b) for a, b in zip(initial, final, strict=True))
    initial, final = captured_critic(monkeypatch, SMALL)
    assert not any(torch.equal(a, b) for a, b in zip(initial, final, strict=True))
    unlearned = ungan(request(), control)
    assert list(unlearned.curves) == ["generator", "fine_tuning"]
    assert not torch.equal(parameters(unlearned), default)


@pytest.mark.parametrize("inclusive", [False, True])
def test_the_control_without_adversary_is_fine_tuning_alone(inclusive: bool) -> None:
    control = changed(critic_steps=0, generator_steps=0, inclusive_loops=inclusive)
    unlearned = ungan(request(), control)
    given = request()
    generator, draws = copy.deepcopy(given.original).requires_grad_().train(), Sampler(given, control)
    optimizer = torch.optim.Adam(generator.parameters(), lr=control.learning_rate, weight_decay=control.weight_decay)
    for _ in range(12 if inclusive else 6):
        fine_tuning_step(generator, given.original, draws, optimizer, control)
    assert torch.equal(parameters(unlearned), parameters(Unlearned(model=generator, curves={})))
    assert list(unlearned.curves) == ["fine_tuning"]
    # Neither the forget set nor the unseen one is looked at.
    other = request(forget=torch.arange(29, 38), unseen=torch.arange(20, 29))
    assert torch.equal(parameters(ungan(other, control)), parameters(unlearned))


def test_steps_follow_from_the_sizes_of_the_sets() -> None:
    paper = request(retain=torch.arange(21375), forget=torch.arange(1125), train=TrainConfig(batch_size=256))
    assert count_steps(paper, UnGANConfig()) == (8, 4, 4, 88)
    assert count_steps(paper, UnGANConfig(inclusive_loops=True)) == (9, 5, 5, 89)
    assert count_steps(paper, UnGANConfig(batch_size=4096)) == (8, 1, 1, 6)
    assert count_steps(paper, UnGANConfig(critic_steps=0, inclusive_loops=True)) == (9, 0, 5, 89)


def test_curves_have_one_mean_a_round() -> None:
    curves = ungan(request(), SMALL).curves
    assert {name: len(curve) for name, curve in curves.items()} == {"critic": 2, "generator": 2, "fine_tuning": 2}
    assert all(math.isfinite(value) for curve in curves.values() for value in curve)


@pytest.mark.parametrize("augmented", [False, True])
def test_unseen_rows_are_the_originals_outputs_beside_the_labels(augmented: bool) -> None:
    given = request()
    calls: list[int] = []
    given.original.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    draws = Sampler(given, changed(augment_adversarial=augmented))
    batches = cycle_batches(given.unseen, BATCH, seed=derive_seed("ungan", "unseen", SEED))
    rows = [draws.sample_unseen("unseen") for _ in range(6)]
    assert sum(calls) == (6 * BATCH if augmented else len(given.unseen))  # cached: each unseen example once
    augment = given.train.augment if augmented else None
    for row in rows:
        epoch, indices = next(batches)
        seed = derive_seed("ungan augment", "unseen", SEED)
        logits = given.original(gather(given.data, indices, augment=augment, seed=seed, epoch=epoch))
        torch.testing.assert_close(row[:, :CLASSES], logits, rtol=1e-12, atol=1e-12)
        assert torch.equal(row[:, CLASSES:], torch.eye(CLASSES, dtype=torch.float64)[given.data.labels[indices]])


def test_the_streams_are_independent_of_each_other() -> None:
    draws = Sampler(request(), SMALL)
    original = request().original
    first, second = (
        torch.cat([draws.sample_forget(name, original) for _ in range(9)]) for name in ("forget", "forget 2")
    )
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.sort(0).values, second.sort(0).values)  # the same 9 examples, 4 times each


def test_epsilon_is_one_a_row_or_one_a_batch_and_new_at_every_step() -> None:
    rows, batch = (Sampler(request(), changed(epsilon_per=per)) for per in ("row", "batch"))
    by_row, by_batch = rows.sample_epsilon(), batch.sample_epsilon()
    assert by_row.shape == by_batch.shape == (BATCH, 1)
    assert len(by_row.unique()) == BATCH
    assert len(by_batch.unique()) == 1
    assert not torch.equal(rows.sample_epsilon(), by_row)
    draws = torch.cat([rows.sample_epsilon() for _ in range(500)])
    assert 0 <= draws.min() < 0.01
    assert 0.99 < draws.max() < 1
    assert draws.mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / 2000) ** 0.5)


def test_initial_init_critic_are_distributed_as_torchs_own() -> None:
    weights = init_critic(10, (128, 128, 128), seed=0, dtype=torch.float64, device=torch.device("cpu"))
    assert [list(w.shape) for w in weights] == [[128, 20], [128], [128, 128], [128], [128, 128], [128]]
    for weight, fan_in in zip(weights, [20, 20, 128, 128, 128, 128], strict=True):
        bound = fan_in**-0.5
        assert 0.95 * bound < weight.abs().max() <= bound
        assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = nn.Linear(128, 128).weight
    assert theirs.abs().max() <= 128**-0.5  # torch's bound, which ours must be
    single = init_critic(10, (128, 128, 128), seed=0, dtype=torch.float32, device=torch.device("cpu"))
    assert all(torch.equal(a.float(), b) for a, b in zip(weights, single, strict=True))


def test_the_critic_may_see_probabilities() -> None:
    logits, labels = torch.tensor([[0.0, math.log(3)]]), torch.tensor([1])
    torch.testing.assert_close(build_critic_input(logits, labels, "softmax"), torch.tensor([[0.25, 0.75, 0.0, 1.0]]))
    assert torch.equal(build_critic_input(logits, labels, "logits"), torch.tensor([[0.0, math.log(3), 0.0, 1.0]]))


@pytest.mark.parametrize("name", ["retain", "forget", "unseen"])
def test_an_empty_set_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}.* is empty"):
        ungan(request(**{name: torch.arange(0)}), SMALL)
