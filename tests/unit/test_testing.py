"""The contract test finds every breach of the contract."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from ungan_dist.methods import Request, Unlearned
from ungan_dist.testing import check_method, make_request


@dataclasses.dataclass(frozen=True)
class Options:
    num_passes: int = 1


def with_own_loop(request: Request, options: Options) -> nn.Module:
    """Use what a request offers: data sets, devices and seeds."""
    model = request.copy_original()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(options.num_passes):
        loader = DataLoader(request.dataset(request.retain, epoch=epoch), batch_size=8, shuffle=True)
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images.to(request.device)), labels).backward()
            optimizer.step()
    return model


def test_a_loop_of_its_own_over_data_sets_is_a_method() -> None:
    check_method(with_own_loop)
    check_method(with_own_loop, Options(num_passes=2))


def moved(request: Request, distance: float = 0.1) -> nn.Module:
    model = request.copy_original().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += distance
    return model


def change_original(request: Request) -> nn.Module:
    request.original.requires_grad_(True)
    return moved(request)


def train_original(request: Request) -> nn.Module:
    with torch.no_grad():
        next(request.original.parameters()).add_(1)
    return moved(request)


def leave_gradient(request: Request) -> nn.Module:
    weight = next(request.fresh.parameters())
    weight.grad = torch.zeros_like(weight)
    return moved(request)


def change_mode(request: Request) -> nn.Module:
    request.original.train()
    return moved(request)


def change_labels(request: Request) -> nn.Module:
    request.data.labels[request.forget] = 0
    return moved(request)


def change_set(request: Request) -> nn.Module:
    request.forget[0] = request.retain[0]
    return moved(request)


def share_memory(request: Request) -> nn.Module:
    model = moved(request)
    next(model.parameters()).data = next(request.original.parameters()).data
    return model


class _AlwaysTraining(nn.Dropout):
    def train(self, mode: bool = True) -> nn.Dropout:
        return super().train(True)


def stay_in_training(request: Request) -> nn.Module:
    model = moved(request)
    model.add_module("dropout", _AlwaysTraining())
    return model


def draw_from_python(request: Request) -> nn.Module:
    return moved(request, random.random() + 0.1)


def draw_from_numpy(request: Request) -> nn.Module:
    return moved(request, float(np.random.random()) + 0.1)  # noqa: NPY002 - the breach


def diverge(request: Request) -> nn.Module:
    return moved(request, float("inf"))


def add_layer(request: Request) -> nn.Module:
    return nn.Sequential(moved(request))


def return_fresh(request: Request) -> nn.Module:
    return request.fresh


def return_nothing(request: Request) -> Any:
    del request


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (change_original, "requires_grad of .* of request.original was changed"),
        (train_original, "of request.original was modified: copy it first"),
        (leave_gradient, "of request.fresh has a gradient: train a copy of it"),
        (change_mode, "the mode of request.original was changed"),
        (change_labels, "the data's labels were modified"),
        (change_set, "request.forget was modified"),
        (share_memory, "shares its memory with a model of the request"),
        (stay_in_training, "a layer is in training mode"),
        (draw_from_python, "a second call with the same seed gave another"),
        (draw_from_numpy, "a second call with the same seed gave another"),
        (diverge, "outputs are not finite"),
        (add_layer, "the result has other layers than the original"),
        (return_fresh, "returned a model of the request itself"),
        (return_nothing, "must return an nn.Module or Unlearned, got NoneType"),
        (lambda request: request.copy_original(), "the method changed nothing"),
        (lambda request: Unlearned(model=request.copy_original(), curves={}), "the method changed nothing"),
    ],
)
def test_a_breach_is_named(method: Callable[[Request], Any], reason: str) -> None:
    with pytest.raises((AssertionError, ValueError), match=reason):
        check_method(method)


def fail_for_one(request: Request) -> nn.Module:
    assert len(request.forget) > 1, "I need two"
    return moved(request)


def test_a_forget_set_of_one_is_tried() -> None:
    with pytest.raises(AssertionError, match="I need two"):
        check_method(fail_for_one)


def test_a_data_set_has_the_examples_of_the_training_and_of_the_evaluation() -> None:
    request = make_request()
    images, labels = next(iter(DataLoader(request.dataset(request.forget), batch_size=11)))
    pixels = (request.data.images[request.forget].float() / 255 - 0.5) / 0.25
    torch.testing.assert_close(images, pixels.permute(0, 3, 1, 2))
    assert torch.equal(labels, request.data.labels[request.forget])
    first, again, other = (request.dataset(request.forget, epoch=epoch)[3][0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    crops = [torch.stack([image for image, _ in request.dataset(request.retain, epoch=epoch)]) for epoch in (0, 1)]
    assert not torch.equal(*crops)
    assert other.shape == first.shape
    with pytest.raises(IndexError, match="position 11 of a set of 11"):
        request.dataset(request.forget)[11]
