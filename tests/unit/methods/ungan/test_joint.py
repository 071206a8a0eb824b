"""Joint UnGAN: one step by hand, its controls, and what it does to log-odds that leak."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as given_values
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata
from tiny_request import tiny_request
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import UnGANJointConfig
from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import gather
from ungan_dist.methods import Request, run_method
from ungan_dist.methods.ungan.views import assign_quantiles, make_views
from ungan_dist.training.optimizers import without_compiler


def plain_request(**changes: Any) -> Request:
    given = tiny_request()
    train = dataclasses.replace(given.train, batch_size=len(given.retain), augment=AugmentConfig())
    return dataclasses.replace(given, train=train, **changes)


def flatten(model: torch.nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    shares = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return shares.log() - (1 - shares).log()


def energy(a: Tensor, b: Tensor) -> Tensor:
    pairs = [(values[:, None] - values).abs().sum() / max(len(values) * (len(values) - 1), 1) for values in (a, b)]
    return 2 * (a[:, None] - b).abs().mean() - sum(pairs)


def energy_within_classes(own: Tensor, labels: Tensor, unseen: Tensor, unseen_labels: Tensor) -> Tensor:
    total = torch.zeros((), dtype=own.dtype)
    for label in labels.unique():
        a, b = own[labels == label], unseen[unseen_labels == label]
        total = total + len(a) / len(own) * energy(a, b if len(b) else unseen)
    return total


def moved(images: np.ndarray, down: int, right: int) -> np.ndarray:
    result = np.zeros_like(images)
    height, width = images.shape[2:]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[:, :, row, column] = images[:, :, row - down, column - right]
    return result


def targets_by_hand(given: Request, unseen: Tensor) -> Tensor:
    """The images are small, so a shift is of one pixel."""
    images = gather(given.data, given.forget).numpy()
    mirrored = images[..., ::-1].copy()
    sides = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    views = [mirrored, *(moved(each, *side) for each in (images, mirrored) for side in sides)]
    labels = given.data.labels[given.forget]
    with torch.no_grad():
        estimates = sum(log_odds(given.original(torch.from_numpy(view)), labels) for view in views)
    ranks = rankdata(estimates.numpy()) - 0.5
    return torch.from_numpy(np.quantile(unseen.numpy(), ranks / len(labels)))


@pytest.mark.parametrize("within", ["all", "classes", "classes, one of them unseen by no example"])
def test_one_step_is_the_gradient_step_written_out(within: str) -> None:
    given = plain_request()
    if "," in within:
        absent = given.data.labels[given.unseen] != given.data.labels[given.forget[0]]
        given = dataclasses.replace(given, unseen=given.unseen[absent])
    config = UnGANJointConfig(epochs=1, steps=1, within="all" if within == "all" else "classes")
    ours = run_method(given, config).model

    model, labels = given.copy_original(), given.data.labels
    optimizer = torch.optim.SGD(model.parameters(), lr=given.train.learning_rate / 2, momentum=given.train.momentum)
    model.train()
    outputs = model(gather(given.data, torch.cat([given.retain, given.forget])))
    retain, forget = outputs.split([len(given.retain), len(given.forget)])
    with torch.no_grad():
        teacher = given.original(gather(given.data, given.retain)).log_softmax(1)
        unseen = log_odds(given.original(gather(given.data, given.unseen)), labels[given.unseen])
    student = retain.log_softmax(1)
    divergence = (student.exp() * (student - teacher)).sum(1).mean()
    own = log_odds(forget, labels[given.forget])
    if within == "all":
        apart = energy(own, unseen)
    else:
        apart = energy_within_classes(own, labels[given.forget], unseen, labels[given.unseen])
    pairing = (own - targets_by_hand(given, unseen)).abs().mean()
    cross_entropy = functional.cross_entropy(retain, labels[given.retain])
    (cross_entropy + divergence / 2 + apart / 2 + pairing / 2).backward()
    optimizer.step()
    # the order of rows differs, so sums may differ in their last bits
    torch.testing.assert_close(flatten(ours), flatten(model), rtol=1e-7, atol=1e-9)


def test_the_learning_rate_falls_by_a_cosine_over_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    kind = without_compiler(torch.optim.SGD)
    step = kind.step

    def recorded(self: Any, *arguments: Any, **named: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **named)

    monkeypatch.setattr(kind, "step", recorded)
    run_method(plain_request(), UnGANJointConfig(epochs=2, steps=2, learning_rate=0.1))
    assert rates == pytest.approx([0.1 * (1 + np.cos(np.pi * done)) / 2 for done in (0, 0.25, 0.5, 0.75)])


@given_values(arrays(np.float64, st.integers(1, 30), elements=st.floats(-9, 9), unique=True), st.integers(1, 40))
def test_quantiles_keep_the_order_and_take_the_distribution(estimates: np.ndarray, number: int) -> None:
    unseen = np.random.default_rng(number).normal(size=number)
    assigned = assign_quantiles(torch.from_numpy(estimates), torch.from_numpy(unseen)).numpy()
    expected = np.quantile(unseen, (rankdata(estimates) - 0.5) / len(estimates))
    np.testing.assert_allclose(assigned, expected, atol=1e-12)
    assert (np.diff(assigned[np.argsort(estimates)]) > -1e-12).all()


@pytest.mark.parametrize(("height", "width"), [(4, 64), (64, 4), (1, 8), (8, 1)])
def test_every_view_of_a_narrow_image_shows_most_of_it(height: int, width: int) -> None:
    images = torch.arange(1.0, 1 + height * width).reshape(1, 1, height, width)
    views = make_views(images)
    assert len(views) == 9
    for view in views:
        assert (view > 0).double().mean() >= 0.75


@pytest.mark.parametrize(
    "changes", [{}, {"within": "classes"}, {"pairing": 0.0}, {"distance": "critic", "critic_widths": (16, 16, 16)}]
)
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
    strong: dict[str, Any] = {"epochs": 4, "steps": 20, "beta": 1.0, "learning_rate": 2e-2}
    after = gap(run_method(given, UnGANJointConfig(**strong, **changes)).model)
    control = gap(run_method(given, UnGANJointConfig(**strong | changes | {"beta": 0.0, "pairing": 0.0})).model)
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
