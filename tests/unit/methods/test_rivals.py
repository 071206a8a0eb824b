"""Compare later methods with their authors' code, restated step by step in float64 with explicit updates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from batch_order import iterate_batches
from tiny_request import NUM_CLASSES, tiny_request
from torch import Tensor, nn

from ungan_dist.config.methods import (
    BadTeacherConfig,
    DeleteConfig,
    InfluenceConfig,
    L1SparseConfig,
    SalUnConfig,
    SSDConfig,
)
from ungan_dist.data.examples import gather, shuffle_set
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods import run_method

REQUEST = tiny_request()
DATA, LABELS, SEED, BATCH = REQUEST.data, REQUEST.data.labels, REQUEST.seed, 8


def student(*, training: bool = True) -> nn.Module:
    return copy.deepcopy(REQUEST.original).requires_grad_(True).train(training)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    chosen = logits[torch.arange(len(labels)), labels]
    return (logits.exp().sum(dim=1).log() - chosen).mean()


def plain(batch: Tensor) -> Tensor:
    return gather(DATA, batch)


def augmented(batch: Tensor, purpose: str, epoch: int) -> Tensor:
    seed = derive_seed("augment", derive_seed(purpose, SEED))
    return gather(DATA, batch, augment=REQUEST.train.augment, seed=seed, epoch=epoch)


def batches(indices: Tensor, purpose: str, epoch: int) -> list[tuple[Tensor, Tensor]]:
    order = iterate_batches(indices, BATCH, seed=derive_seed(purpose, SEED), epoch=epoch)
    return [(augmented(batch, purpose, epoch), batch) for batch in order]


def gradients(model: nn.Module, batch: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(cross_entropy(model(plain(batch)), LABELS[batch]), list(model.parameters())))


def sgd(weights: list[Tensor], rate: float, *, momentum: float, decay: float = 0.0) -> Callable[..., None]:
    velocities = [torch.zeros_like(weight) for weight in weights]

    def update(loss: Tensor, masks: list[Tensor] | None = None) -> None:
        found = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for number, (weight, velocity, gradient) in enumerate(zip(weights, velocities, found, strict=True)):
                velocity.mul_(momentum).add_(gradient + decay * weight)
                weight -= rate * velocity * (1 if masks is None else masks[number])

    return update


def assert_same(config: object, expected: nn.Module) -> dict[str, Tensor]:
    ours = run_method(REQUEST, config).model.state_dict()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(ours[name], value, atol=1e-10, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    start = REQUEST.original.state_dict()
    assert max(float((value - start[name]).abs().max()) for name, value in ours.items()) > 1e-6
    return ours


@pytest.mark.parametrize("batch_size", [None, 5])
def test_ssd(batch_size: int | None) -> None:
    model, size = student(training=False), batch_size or BATCH
    everything = torch.cat([REQUEST.retain, REQUEST.forget])

    def importance(indices: Tensor) -> list[Tensor]:
        total = [torch.zeros_like(weight) for weight in model.parameters()]
        parts = [indices[start : start + size] for start in range(0, len(indices), size)]
        for part in parts:
            for sum_of_squares, gradient in zip(total, gradients(model, part), strict=True):
                sum_of_squares += gradient**2
        return [sum_of_squares / len(parts) for sum_of_squares in total]

    num_dampened, num_bounded = 0, 0
    with torch.no_grad():
        of_forget, of_all = importance_of(importance, REQUEST.forget), importance_of(importance, everything)
        for weight, forget, full in zip(model.parameters(), of_forget, of_all, strict=True):
            for place in np.ndindex(*weight.shape):
                if forget[place] > 0.9 * full[place]:
                    factor = float(1.05 * full[place] / forget[place])
                    num_dampened, num_bounded = num_dampened + 1, num_bounded + (factor > 1)
                    weight[place] *= min(factor, 1.0)
    assert 0 < num_bounded < num_dampened < sum(weight.numel() for weight in model.parameters())
    config = SSDConfig(selection_weighting=0.9, dampening_constant=1.05, batch_size=batch_size)
    assert_same(config, model)


def importance_of(importance: Callable[[Tensor], list[Tensor]], indices: Tensor) -> list[Tensor]:
    with torch.enable_grad():
        return importance(indices)


@pytest.mark.parametrize("passes", ["joint", "salun_cifar10"])
def test_salun(passes: str) -> None:
    model = student(training=False)
    total = [torch.zeros_like(weight) for weight in model.parameters()]
    for start in range(0, len(REQUEST.forget), BATCH):
        for summed, gradient in zip(total, gradients(model, REQUEST.forget[start : start + BATCH]), strict=True):
            summed -= gradient
    sizes = sorted((abs(float(value)) for summed in total for value in summed.flatten()), reverse=True)
    threshold = sizes[int(0.3 * len(sizes)) - 1]
    masks = [(summed.abs() >= threshold).to(summed) for summed in total]
    model.train()
    step = sgd(list(model.parameters()), 0.02, momentum=0.9, decay=5e-4)
    for epoch in range(2):
        labels = LABELS.clone()
        philox = np.random.Philox(derive_seed("labels", SEED, epoch))
        drawn = np.random.Generator(philox).integers(0, NUM_CLASSES, len(REQUEST.forget))
        labels[REQUEST.forget] = torch.from_numpy(drawn)
        sets = {"salun": torch.cat([REQUEST.retain, REQUEST.forget])}
        if passes == "salun_cifar10":
            sets = {"salun, forget": REQUEST.forget, "salun, retain": REQUEST.retain}
        for purpose, indices in sets.items():
            for images, batch in batches(indices, purpose, epoch):
                step(cross_entropy(model(images), labels[batch]), masks)
    ours = assert_same(SalUnConfig(saliency=0.3, epochs=2, learning_rate=0.02, passes=passes), model)
    for (name, before), mask in zip(REQUEST.original.named_parameters(), masks, strict=True):
        assert torch.equal(ours[name] != before, mask.bool()), "exactly the salient weights move"


def test_bad_teacher() -> None:
    model, good = student(), REQUEST.original
    bad = copy.deepcopy(REQUEST.fresh).eval()
    first, second = ([torch.zeros_like(weight) for weight in model.parameters()] for _ in range(2))
    kept = shuffle_set(REQUEST.retain, derive_seed("bad teacher, retain", SEED), 0)[: math.floor(0.3 * 26)]
    count = 0
    for epoch in range(3):
        for images, batch in batches(torch.cat([REQUEST.forget, kept]), "bad teacher", epoch):
            count += 1
            terms: list[Tensor] = []
            logits = model(images) / 2
            for row, example in enumerate(batch.tolist()):
                teacher = bad if example in REQUEST.forget.tolist() else good
                with torch.no_grad():
                    wanted = (teacher(images[row : row + 1])[0] / 2).exp()
                wanted = wanted / wanted.sum()
                log_student = logits[row] - logits[row].exp().sum().log()
                terms.append((wanted * (wanted.log() - log_student)).mean())
            found = torch.autograd.grad(torch.stack(terms).mean(), list(model.parameters()))
            with torch.no_grad():
                for weight, m, v, gradient in zip(model.parameters(), first, second, found, strict=True):
                    m.mul_(0.9).add_(0.1 * gradient)
                    v.mul_(0.999).add_(0.001 * gradient**2)
                    weight -= 1e-3 * (m / (1 - 0.9**count)) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)
    assert_same(BadTeacherConfig(epochs=3, learning_rate=1e-3, temperature=2.0), model)


@pytest.mark.parametrize("without", [0, 1])
def test_l1_sparse(without: int) -> None:
    model = student()
    step = sgd(list(model.parameters()), 0.01, momentum=0.9, decay=5e-4)
    for epoch in range(3):
        alpha = 0.02 * (1 - epoch / (3 - without)) if epoch < 3 - without else 0.0
        for images, batch in batches(REQUEST.retain, "l1-sparse", epoch):
            norm = torch.cat([weight.flatten() for weight in model.parameters()]).abs().sum()
            step(cross_entropy(model(images), LABELS[batch]) + alpha * norm)
    assert_same(L1SparseConfig(alpha=0.02, epochs=3, epochs_without_penalty=without), model)


@pytest.mark.parametrize("fisher_examples", [7, 1000])
def test_influence(fisher_examples: int) -> None:
    """The code stops when the index, counted from 0, exceeds N: after N + 2 examples."""
    model = student(training=False)

    def flat(batch: Tensor) -> Tensor:
        return torch.cat([gradient.flatten() for gradient in gradients(model, batch)])

    num_forget, num_retain = len(REQUEST.forget), len(REQUEST.retain)
    of_forget = sum(flat(REQUEST.forget[i : i + 1]) for i in range(num_forget)) / (num_forget + num_retain)
    of_retain = sum(flat(REQUEST.retain[i : i + 1]) for i in range(num_retain))
    k = of_forget - of_retain * num_forget / ((num_forget + num_retain) * num_retain)
    o = flat(REQUEST.retain[:1])
    used = 1
    for index in range(1, num_retain):
        gradient = flat(REQUEST.retain[index : index + 1])
        along = (o * gradient).sum()
        k = k - (k * gradient).sum() / (fisher_examples + along) * o
        o = o - along / (fisher_examples + along) * o
        used += 1
        if index > fisher_examples:
            break
    assert used == min(num_retain, fisher_examples + 2)
    with torch.no_grad():
        start = 0
        for weight in model.parameters():
            weight += 5.0 * k[start : start + weight.numel()].view_as(weight)
            start += weight.numel()
    assert_same(InfluenceConfig(alpha=5.0, fisher_examples=fisher_examples), model)


def test_delete() -> None:
    model = student()
    step = sgd(list(model.parameters()), 0.05, momentum=0.9)
    for epoch in range(3):
        for images, batch in batches(REQUEST.forget, "delete", epoch):
            with torch.no_grad():
                outputs = REQUEST.original(images).exp()
            terms: list[Tensor] = []
            logits = model(images)
            for row, label in enumerate(LABELS[batch].tolist()):
                others = [one for one in range(NUM_CLASSES) if one != label]
                wanted = outputs[row, others] / outputs[row, others].sum()
                log_student = (logits[row] - logits[row].exp().sum().log())[others]
                terms.append((wanted * (wanted.log() - log_student)).sum())
            step(torch.stack(terms).mean())
    assert_same(DeleteConfig(epochs=3, learning_rate=0.05), model)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: SalUnConfig(saliency=0), "saliency must be greater than 0 and at most 1, got 0"),
        (
            lambda: BadTeacherConfig(retain_fraction=1.5),
            "retain_fraction must be greater than 0 and at most 1",
        ),
        (
            lambda: L1SparseConfig(epochs=2, epochs_without_penalty=2),
            "leaves none of 2 epochs with a penalty",
        ),
        (lambda: SSDConfig(selection_weighting=0), "selection_weighting must be finite and greater than 0, got 0"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()
