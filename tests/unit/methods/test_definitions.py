"""Compare each baseline with its formula, step by step in float64 with explicit updates."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from batch_order import cycle_batches, iterate_batches
from tiny_request import NUM_CLASSES, tiny_request
from torch import Tensor, nn

from ungan_dist.config.methods import (
    AdvNegGradsConfig,
    CFkConfig,
    FineTuningConfig,
    NegGradsConfig,
    RandomLabelsConfig,
    SCRUBConfig,
    UNSIRConfig,
)
from ungan_dist.data.examples import gather, shuffle_set
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods import Request, run_method

REQUEST = tiny_request()
DATA, LABELS, SEED = REQUEST.data, REQUEST.data.labels, REQUEST.seed
Update = Callable[[Tensor], None]


def student() -> nn.Module:
    return copy.deepcopy(REQUEST.original).train().requires_grad_(True)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    chosen = logits[torch.arange(len(labels)), labels]
    return (logits.exp().sum(dim=1).log() - chosen).mean()


def sgd(weights: list[Tensor], rate: float, *, momentum: float = 0.0, decay: float = 0.0) -> Callable[[Tensor], None]:
    """v ← μ v + g + λ w; w ← w − η v."""
    velocities = [torch.zeros_like(weight) for weight in weights]

    def update(loss: Tensor) -> None:
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, velocity, gradient in zip(weights, velocities, gradients, strict=True):
                velocity.mul_(momentum).add_(gradient + decay * weight)
                weight -= rate * velocity

    return update


def adam(weights: list[Tensor], rate: float, *, decay: float = 0.0, decoupled: float = 0.0) -> Update:
    """Kingma and Ba 2015 with L2 decay, or with Loshchilov and Hutter's decoupled one."""
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    count = 0

    def update(loss: Tensor) -> None:
        nonlocal count
        count += 1
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, m, v, gradient in zip(weights, first, second, gradients, strict=True):
                gradient = gradient + decay * weight
                m.mul_(0.9).add_(0.1 * gradient)
                v.mul_(0.999).add_(0.001 * gradient**2)
                weight *= 1 - rate * decoupled
                weight -= rate * (m / (1 - 0.9**count)) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)

    return update


def pictures(batch: Tensor, seed: int, epoch: int) -> Tensor:
    return gather(DATA, batch, augment=REQUEST.train.augment, seed=derive_seed("augment", seed), epoch=epoch)


def passes(indices: Tensor, seed: int, epochs: range, batch_size: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    for epoch in epochs:
        for batch in iterate_batches(indices, batch_size, seed=seed, epoch=epoch):
            yield pictures(batch, seed, epoch), batch


def assert_same(config: object, expected: nn.Module, request: Request = REQUEST) -> None:
    ours = run_method(request, config).model.state_dict()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(ours[name], value, atol=1e-12, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    start = REQUEST.original.state_dict()
    assert max(float((value - start[name]).abs().max()) for name, value in ours.items()) > 1e-6


def test_fine_tuning() -> None:
    model = student()
    step = sgd(list(model.parameters()), 0.02, momentum=0.5)
    for images, batch in passes(REQUEST.retain, derive_seed("fine-tuning", SEED), range(2)):
        step(cross_entropy(model(images), LABELS[batch]))
    assert_same(FineTuningConfig(epochs=2, learning_rate=0.02, momentum=0.5), model)


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("exclude_true", [False, True])
def test_random_labels(redraw: bool, exclude_true: bool) -> None:
    model = student()
    step = adam(list(model.parameters()), 5e-4, decoupled=0.01)
    everything = torch.cat([REQUEST.retain, REQUEST.forget])
    for epoch in range(2):
        philox = np.random.Philox(derive_seed("labels", SEED, epoch if redraw else 0))
        wrong = dict(enumerate(LABELS.tolist()))
        for example, draw in zip(
            REQUEST.forget.tolist(),
            np.random.Generator(philox).integers(1 if exclude_true else 0, NUM_CLASSES, len(REQUEST.forget)),
            strict=True,
        ):
            wrong[example] = (wrong[example] + draw) % NUM_CLASSES if exclude_true else draw
        for images, batch in passes(everything, derive_seed("random labels", SEED), range(epoch, epoch + 1)):
            step(cross_entropy(model(images), torch.tensor([wrong[example] for example in batch.tolist()])))
    assert_same(RandomLabelsConfig(epochs=2, redraw=redraw, exclude_true=exclude_true), model)


def test_random_labels_as_salun_on_cifar10() -> None:
    """A whole pass over the forget set with new random labels, then a whole pass over the retain set."""
    model = student()
    step = sgd(list(model.parameters()), 0.01, momentum=0.9, decay=5e-4)
    for epoch in range(2):
        labels = LABELS.clone()
        philox = np.random.Philox(derive_seed("labels", SEED, epoch))
        drawn = np.random.Generator(philox).integers(0, NUM_CLASSES, len(REQUEST.forget))
        labels[REQUEST.forget] = torch.from_numpy(drawn)
        for name, indices in (("forget", REQUEST.forget), ("retain", REQUEST.retain)):
            for images, batch in passes(indices, derive_seed(f"random labels, {name}", SEED), range(epoch, epoch + 1)):
                step(cross_entropy(model(images), labels[batch]))
    config = RandomLabelsConfig(
        epochs=2, redraw=True, passes="salun_cifar10", optimizer="sgd", learning_rate=0.01, weight_decay=5e-4
    )
    assert_same(config, model)


@pytest.mark.parametrize("repair_epochs", [0, 1])
def test_neg_grads(repair_epochs: int) -> None:
    model = student()
    step = sgd(list(model.parameters()), 0.01)
    for images, batch in passes(REQUEST.forget, derive_seed("neg grads", SEED), range(3)):
        step(-cross_entropy(model(images), LABELS[batch]))
    for images, batch in passes(REQUEST.retain, derive_seed("neg grads, repair", SEED), range(repair_epochs)):
        step(cross_entropy(model(images), LABELS[batch]))
    assert_same(NegGradsConfig(epochs=3, repair_epochs=repair_epochs), model)


@pytest.mark.parametrize("alpha", [None, 0.95])
def test_adv_neg_grads(alpha: float | None) -> None:
    model = student()
    step = sgd(list(model.parameters()), 1e-3)
    of_retain, of_forget = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
    seed = derive_seed("adv neg grads", SEED)
    forget = cycle_batches(REQUEST.forget, 8, seed=derive_seed("forget", seed))
    for images, batch in passes(REQUEST.retain, seed, range(2)):
        epoch, forget_batch = next(forget)
        keep = cross_entropy(model(images), LABELS[batch])
        leave = cross_entropy(model(pictures(forget_batch, seed, epoch)), LABELS[forget_batch])
        step(of_retain * keep - of_forget * leave)
    assert_same(AdvNegGradsConfig(alpha=alpha), model)


@pytest.mark.parametrize("update_frozen_statistics", [False, True])
def test_cf_k(update_frozen_statistics: bool) -> None:
    model = student()
    assert isinstance(model.stages, nn.ModuleList)
    for stage in model.stages[:2]:
        stage.train(update_frozen_statistics)
    step = sgd(list(model.stages[2:].parameters()), 1e-3)
    for images, batch in passes(REQUEST.retain, derive_seed("cf-k", SEED), range(2)):
        step(cross_entropy(model(images), LABELS[batch]))
    assert_same(CFkConfig(update_frozen_statistics=update_frozen_statistics), model)


def noise_generator() -> Callable[[int], Tensor]:
    generator = torch.Generator().manual_seed(derive_seed("noise", derive_seed("unsir", SEED)))
    return lambda count: torch.randn(count, 1, 8, 8, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("variant", ["sample", "mufac"])
@pytest.mark.parametrize("impair_pass", ["retain", "forget"])
def test_unsir_by_batch(variant: str, impair_pass: str) -> None:
    model, draw = student(), noise_generator()
    step = sgd(list(model.parameters()), 1e-3)
    seed = derive_seed("unsir", SEED)
    passed, other = REQUEST.retain, REQUEST.forget
    if impair_pass == "forget":
        passed, other = other, passed
    cycled = cycle_batches(other, 8, seed=derive_seed("cycled", seed))
    for epoch in range(2):
        for batch in iterate_batches(passed, 8, seed=seed, epoch=epoch):
            turn, around = next(cycled)
            (retain, retain_epoch), (forget, forget_epoch) = (batch, epoch), (around, turn)
            if impair_pass == "forget":
                (retain, retain_epoch), (forget, forget_epoch) = (forget, forget_epoch), (retain, retain_epoch)
            rows = min(len(retain), len(forget))
            forget = forget[:rows]
            noise = draw(rows)
            if variant == "sample":
                labels = LABELS[forget]
            else:
                labels = LABELS[retain][:rows]
                target = model(pictures(forget, seed, forget_epoch)).detach()
            learn = adam([noise], 0.01)
            for _ in range(5):
                if variant == "sample":
                    learn(-cross_entropy(model(noise), labels))
                else:
                    learn(-((model(noise) - target) ** 2).mean())
            noise = noise.detach().clamp(0, 1)
            loss = cross_entropy(model(noise), labels)
            step(loss + cross_entropy(model(pictures(retain, seed, retain_epoch)), LABELS[retain]))
    for images, batch in passes(REQUEST.retain, derive_seed("repair", seed), range(1)):
        step(cross_entropy(model(images), LABELS[batch]))
    assert_same(UNSIRConfig(variant=variant, impair_pass=impair_pass), model)  # pyright: ignore[reportArgumentType]


def test_unsir_as_the_notebook_of_mufac() -> None:
    """In eval mode, and until the shorter set ends: 26 retain and 11 forget examples are two batches of eight."""
    model, draw = student().eval(), noise_generator()
    step = sgd(list(model.parameters()), 1e-3)
    seed = derive_seed("unsir", SEED)
    other_seed = derive_seed("cycled", seed)
    for epoch in range(2):
        batches = zip(
            iterate_batches(REQUEST.retain, 8, seed=seed, epoch=epoch),
            iterate_batches(REQUEST.forget, 8, seed=other_seed, epoch=epoch),
            strict=False,
        )
        for retain, forget in batches:
            noise, labels = draw(len(forget)), LABELS[retain][: len(forget)]
            target = model(pictures(forget, other_seed, epoch)).detach()
            learn = adam([noise], 0.01)
            for _ in range(5):
                learn(-((model(noise) - target) ** 2).mean())
            noise = noise.detach().clamp(0, 1)
            loss = cross_entropy(model(noise), labels)
            step(loss + cross_entropy(model(pictures(retain, seed, epoch)), LABELS[retain]))
    for images, batch in passes(REQUEST.retain, derive_seed("repair", seed), range(1)):
        step(cross_entropy(model(images), LABELS[batch]))
    config = UNSIRConfig(variant="mufac", eval_mode=True)
    before = {name: value.clone() for name, value in REQUEST.original.named_buffers()}
    assert_same(config, model)
    after = dict(run_method(REQUEST, config).model.named_buffers())
    assert all(torch.equal(value, after[name]) for name, value in before.items())  # no statistic has moved


def test_unsir_by_class() -> None:
    model, draw = student(), noise_generator()
    seed = derive_seed("unsir", SEED)
    classes = sorted(set(LABELS[REQUEST.forget].tolist()))
    noises: list[Tensor] = []
    for label in classes:
        noise = draw(8)
        learn = adam([noise], 0.1)
        for _ in range(6):
            penalty = (noise**2).sum(dim=(1, 2, 3)).mean()
            learn(-cross_entropy(model(noise), torch.full((8,), label)) + 0.1 * penalty)
        noises.append(noise.detach())
    kept = torch.cat(
        [
            shuffle_set(REQUEST.retain[LABELS[REQUEST.retain] == label], derive_seed("kept", seed), label)[:3]
            for label in range(NUM_CLASSES)
        ]
    )
    assert len(kept) == 3 * NUM_CLASSES
    copies = [(noise, label) for _ in range(2) for batch, label in zip(noises, classes, strict=True) for noise in batch]
    impair = adam(list(model.parameters()), 0.02)
    for positions in iterate_batches(torch.arange(len(copies) + len(kept)), 8, seed=seed, epoch=0):
        noisy = [copies[position] for position in positions.tolist() if position < len(copies)]
        real = kept[[position - len(copies) for position in positions.tolist() if position >= len(copies)]]
        images = torch.cat([torch.stack([noise for noise, _ in noisy]), pictures(real, seed, 0)])
        impair(cross_entropy(model(images), torch.cat([torch.tensor([label for _, label in noisy]), LABELS[real]])))
    repair = adam(list(model.parameters()), 0.01)
    for images, batch in passes(kept, derive_seed("repair", seed), range(1)):
        repair(cross_entropy(model(images), LABELS[batch]))
    assert_same(UNSIRConfig(variant="class", noise_steps=6, noise_copies=2, retain_per_class=3), model)


@pytest.mark.parametrize(
    ("preset", "gamma", "alpha", "temperature", "msteps", "epochs", "decay_epochs", "sizes"),
    [
        ("large_scale", 0.99, 0.001, 4, 2, 3, (3, 5, 9), (256, 512)),
        ("small_scale", 1, 0.5, 2, 3, 10, (5, 8, 9), (32, 64)),
        ("mia", 1, 0.5, 4, 3, 5, (3, 5, 9), (32, 16)),
    ],
)
@pytest.mark.parametrize("order", ["scrub", "mufac"])
def test_scrub(
    order: str,
    preset: str,
    gamma: float,
    alpha: float,
    temperature: float,
    msteps: int,
    epochs: int,
    decay_epochs: tuple[int, ...],
    sizes: tuple[int, int],
) -> None:
    model, teacher = student(), REQUEST.original

    def kd(images: Tensor, logits: Tensor) -> Tensor:
        p, q = ((values / temperature).softmax(dim=1) for values in (teacher(images), logits))
        return temperature**2 * (p * (p / q).log()).sum() / len(images)

    # The rate changes between epochs and the optimizer's state does not: a rate of 1 scaled outside would not do for
    # weight decay, so the hand-written update reads it from here.
    weights = list(model.parameters())
    first, second = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    count = 0

    def step(loss: Tensor, rate: float) -> None:
        nonlocal count
        count += 1
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for weight, m, v, gradient in zip(weights, first, second, gradients, strict=True):
                if preset == "small_scale":
                    gradient = gradient + 0.1 * weight
                    m.mul_(0.9).add_(0.1 * gradient)
                    v.mul_(0.999).add_(0.001 * gradient**2)
                    weight -= rate * (m / (1 - 0.9**count)) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)
                else:
                    m.mul_(0.9).add_(gradient + 5e-4 * weight)
                    weight -= rate * m

    for epoch in range(1, epochs + 1):
        rate = 5e-4 * 0.1 ** len([decay for decay in decay_epochs if decay < epoch])
        this = range(epoch, epoch + 1)
        if epoch <= msteps and order == "scrub":
            for images, _ in passes(REQUEST.forget, derive_seed("scrub, forget", SEED), this, sizes[1]):
                step(-kd(images, model(images)), rate)
        for images, batch in passes(REQUEST.retain, derive_seed("scrub, retain", SEED), this, sizes[0]):
            logits = model(images)
            step(gamma * cross_entropy(logits, LABELS[batch]) + alpha * kd(images, logits), rate)
        if epoch <= msteps and order == "mufac":
            for images, _ in passes(REQUEST.forget, derive_seed("scrub, forget", SEED), this, sizes[1]):
                step(-kd(images, model(images)), rate)
    assert_same(SCRUBConfig(preset=preset, order=order), model)  # pyright: ignore[reportArgumentType]
