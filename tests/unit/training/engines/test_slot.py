"""Models that pass through a slot are those that ``train`` makes, whatever was in the slot before."""

from __future__ import annotations

import copy
import gc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_request import tiny_request
from torch import Tensor, nn

from ungan_dist.config.training import AugmentConfig, ModelConfig, TrainConfig
from ungan_dist.errors import Diverged
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.engines.slot import Slot
from ungan_dist.training.models import build
from ungan_dist.training.train import train
from ungan_dist.training.world import World

SET_SIZE = 26
"""Two batches of ten and one of six."""


def recipe(epochs: int) -> TrainConfig:
    augment = AugmentConfig(padding=1, flip=True)
    return TrainConfig(epochs=epochs, batch_size=10, learning_rate=0.1, weight_decay=1e-3, augment=augment)


def made(seed: int, factory: str | None = None) -> nn.Module:
    config = ModelConfig(width=4, factory=factory)
    return build(config, channels=1, num_classes=5, seed=seed, device=torch.device("cpu"), size=(8, 8)).double()


def members(seed: int) -> Tensor:
    return torch.arange(seed % 20, seed % 20 + SET_SIZE)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(ours: nn.Module, theirs: nn.Module, atol: float) -> None:
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=atol, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("num_places", "factory"),
    [(1, None), pytest.param(1, "user_models:dropping", marks=pytest.mark.process), (2, None)],
)
def test_models_of_a_slot_are_those_of_train(num_places: int, factory: str | None) -> None:
    """After 90 steps each, one after another or at once; dropout draws the same too."""
    data, config = tiny_request().data, recipe(30)
    slot = Slot([made(9, factory) for _ in range(num_places)], data, config, SET_SIZE)
    assert slot.num_captured == 2
    for first in range(0, 2, num_places):
        seeds = list(range(first, first + num_places))
        models = [made(seed, factory) for seed in seeds]
        alone = copy.deepcopy(models)
        losses = slot.train(models, [members(seed) for seed in seeds], seeds=seeds)
        for place, seed in enumerate(seeds):
            expected = train(alone[place], data, members(seed), config, seed=seed)
            assert [epoch[place] for epoch in losses] == pytest.approx(expected, abs=1e-12)
            assert_same(models[place], alone[place], atol=1e-12)
            assert not models[place].training


@pytest.fixture(scope="module")
def slot() -> Slot:
    return Slot([made(9)], tiny_request().data, recipe(3), SET_SIZE)


@pytest.fixture(scope="module")
def alone() -> list[dict[str, Tensor]]:
    """Four models, each from a slot of its own."""
    states: list[dict[str, Tensor]] = []
    for seed in range(4):
        model = made(seed)
        Slot([made(8)], tiny_request().data, recipe(3), SET_SIZE).train([model], [members(seed)], seeds=[seed])
        states.append(state_of(model))
    return states


@settings(max_examples=12, deadline=None)
@given(order=st.lists(st.one_of(st.integers(0, 3), st.none()), min_size=1, max_size=5))
def test_any_order_of_models_gives_the_same_bits(
    slot: Slot, alone: list[dict[str, Tensor]], order: list[int | None]
) -> None:
    """``None`` is a model that diverges and leaves weights and momenta that are no numbers."""
    for seed in order:
        model = made(seed or 0)
        if seed is None:
            next(model.parameters()).data.fill_(torch.nan)
            with pytest.raises(Diverged, match=r"not finite in epoch 1 of 3"):
                slot.train([model], [members(0)], seeds=[0])
            continue
        slot.train([model], [members(seed)], seeds=[seed])
        assert all(torch.equal(value, alone[seed][name]) for name, value in model.state_dict().items())


class Interrupted(BaseException):
    """Ends a training from outside."""


@pytest.mark.parametrize("num_places", [1, 2])
def test_a_training_continues_from_a_checkpoint_after_other_models(tmp_path: Path, num_places: int) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise Interrupted

    seeds = list(range(num_places))
    slot = Slot([made(9) for _ in seeds], tiny_request().data, recipe(5), SET_SIZE)
    whole, cut, other = ([made(seed + more) for seed in seeds] for more in (0, 0, 5))
    sets = [members(seed) for seed in seeds]
    expected = slot.train(whole, sets, seeds=seeds)
    first = Checkpoint(tmp_path, "state", id="an id", world=World(), on_epoch=interrupt)
    with pytest.raises(Interrupted):
        slot.train(cut, sets, seeds=seeds, checkpoint=first)
    slot.train(other, sets, seeds=[7] * num_places)
    epochs: list[int] = []
    second = Checkpoint(tmp_path, "state", id="an id", world=World(), on_epoch=lambda done, _: epochs.append(done))
    assert slot.train(cut, sets, seeds=seeds, checkpoint=second) == expected
    assert epochs == [3, 4, 5]
    for ours, theirs in zip(cut, whole, strict=True):
        assert_same(ours, theirs, atol=0)


def test_a_slot_takes_no_more_memory_with_each_model(slot: Slot) -> None:
    def num_bytes() -> int:
        gc.collect()
        tensors = [one for one in gc.get_objects() if type(one) in (Tensor, nn.Parameter)]
        storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
        return sum(storages.values())

    model = made(0)
    slot.train([model], [members(0)], seeds=[0])
    before = num_bytes()
    for seed in range(4):
        slot.train([model], [members(seed)], seeds=[seed])
    assert num_bytes() == before
