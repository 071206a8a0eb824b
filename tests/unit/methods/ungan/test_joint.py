"""Joint UnGAN: one step by hand, its controls, and what it does to log-odds that leak."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from tiny_request import tiny_request
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import UnGANJointConfig
from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import gather
from ungan_dist.methods import Request, run_method


def plain_request(**changes: Any) -> Request:
    given = tiny_request()
    train = dataclasses.replace(given.train, batch_size=len(given.retain), augment=AugmentConfig())
    return dataclasses.replace(given, train=train, **changes)


def flatten(model: torch.nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    shares = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return shares.log() - (1 - shares).log()


def energy_within_classes(own: Tensor, labels: Tensor, unseen: Tensor, unseen_labels: Tensor) -> Tensor:
    total = torch.zeros((), dtype=own.dtype)
    for label in labels.unique():
        a, b = own[labels == label], unseen[unseen_labels == label]
        if not len(b):
            b = unseen
        pairs = [(values[:, None] - values).abs().sum() / max(len(values) * (len(values) - 1), 1) for values in (a, b)]
        total = total + len(a) / len(own) * (2 * (a[:, None] - b).abs().mean() - sum(pairs))
    return total


@pytest.mark.parametrize("missing", [False, True], ids=["every class unseen", "a class without unseen examples"])
def test_one_step_is_the_gradient_step_written_out(missing: bool) -> None:
    given = plain_request()
    if missing:
        absent = given.data.labels[given.unseen] != given.data.labels[given.forget[0]]
        given = dataclasses.replace(given, unseen=given.unseen[absent])
    config = UnGANJointConfig(epochs=1, steps=1)
    ours = run_method(given, config).model

    model, labels = given.copy_original(), given.data.labels
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    model.train()
    outputs = model(gather(given.data, torch.cat([given.retain, given.forget])))
    retain, forget = outputs.split([len(given.retain), len(given.forget)])
    with torch.no_grad():
        teacher = given.original(gather(given.data, given.retain)).log_softmax(1)
        unseen = log_odds(given.original(gather(given.data, given.unseen)), labels[given.unseen])
    student = retain.log_softmax(1)
    divergence = (student.exp() * (student - teacher)).sum(1).mean()
    apart = energy_within_classes(
        log_odds(forget, labels[given.forget]), labels[given.forget], unseen, labels[given.unseen]
    )
    cross_entropy = functional.cross_entropy(retain, labels[given.retain])
    (cross_entropy / 16 + divergence / 32 + apart / 16).backward()
    optimizer.step()
    # the order of rows differs, so sums may differ in their last bits, and Adam divides by small roots
    torch.testing.assert_close(flatten(ours), flatten(model), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("changes", [{}, {"within": "all"}, {"distance": "critic", "critic_widths": (16, 16, 16)}])
def test_the_distance_falls_and_the_control_leaves_it(changes: dict[str, Any]) -> None:
    given = plain_request()
    labels = given.data.labels[given.forget]

    def gap(model: torch.nn.Module) -> float:
        model.eval()
        with torch.no_grad():
            own = log_odds(model(gather(given.data, given.forget)), labels)
            unseen = log_odds(given.original(gather(given.data, given.unseen)), given.data.labels[given.unseen])
        return abs(float(own.mean() - unseen.mean()))

    # an original that is sure of its forget set
    sure = given.copy_original()
    optimizer = torch.optim.Adam(sure.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(sure.train()(gather(given.data, given.forget)), labels).backward()
        optimizer.step()
    given = dataclasses.replace(given, original=sure.eval().requires_grad_(False))
    before = gap(given.original)
    assert before > 2
    strong: dict[str, Any] = {"epochs": 4, "steps": 20, "beta": 1.0, "learning_rate": 2e-3}
    after = gap(run_method(given, UnGANJointConfig(**strong, **changes)).model)
    control = gap(run_method(given, UnGANJointConfig(**strong | changes | {"beta": 0.0})).model)
    assert after < 0.6 * before
    assert control > after + 0.2 * before


def test_an_untrained_critic_stays_as_it_was_drawn() -> None:
    given = plain_request()
    short: dict[str, Any] = {"epochs": 1, "steps": 2, "distance": "critic", "critic_widths": (8, 8, 8)}
    untrained, trained = (
        flatten(run_method(given, UnGANJointConfig(**short, **more)).model)
        for more in ({"critic_steps": 0, "critic_pretraining": 0}, {"critic_steps": 3, "critic_pretraining": 5})
    )
    assert not torch.equal(untrained, trained)


def test_a_large_forget_set_is_taken_in_batches() -> None:
    given = plain_request()
    sizes: list[int] = []
    original = type(given.original).forward

    def counted(self: torch.nn.Module, images: Tensor) -> Tensor:
        if self.training:
            sizes.append(len(images))
        return original(self, images)

    type(given.original).forward = counted
    try:
        run_method(given, UnGANJointConfig(epochs=1, steps=3, batch_size=8, forget_batch_size=4))
    finally:
        type(given.original).forward = original
    assert sizes == [12, 12, 12]


@pytest.mark.parametrize("empty", ["retain", "forget", "unseen"])
def test_an_empty_set_is_refused(empty: str) -> None:
    given = plain_request(**{empty: torch.zeros(0, dtype=torch.int64)})
    with pytest.raises(ValueError, match=f"the set '{empty}' is empty"):
        run_method(given, UnGANJointConfig())
