"""Random Labels: which labels the training passes are given."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from tiny_request import NUM_CLASSES, tiny_request
from torch import Tensor

from ungan_dist.config.methods import RandomLabelsConfig
from ungan_dist.methods.request import Request

module = importlib.import_module("ungan_dist.methods.random_labels")  # the attribute is the function


def labels_given(monkeypatch: pytest.MonkeyPatch, request: Request, config: RandomLabelsConfig) -> list[Tensor]:
    """The labels of each pass, the training itself left out."""
    given: list[Tensor] = []

    def listen(model: Any, data: Any, indices: Tensor, optimizer: Any, *, labels: Tensor, **_: Any) -> float:
        assert sorted(indices.tolist()) == sorted([*request.retain.tolist(), *request.forget.tolist()])
        given.append(labels)
        return 0.0

    monkeypatch.setattr("ungan_dist.methods.request.train_pass", listen)
    module.random_labels(request, config)
    return given


@pytest.mark.parametrize("redraw", [False, True])
def test_labels_are_drawn_once_or_before_every_epoch(monkeypatch: pytest.MonkeyPatch, redraw: bool) -> None:
    request = tiny_request(num_forget=200)
    given = labels_given(monkeypatch, request, RandomLabelsConfig(epochs=3, redraw=redraw))
    assert len({tuple(labels.tolist()) for labels in given}) == (3 if redraw else 1)
    for labels in given:
        assert torch.equal(labels[request.retain], request.data.labels[request.retain])


@pytest.mark.parametrize("exclude_true", [False, True])
def test_labels_are_uniform_over_all_classes_or_over_the_wrong_ones(
    monkeypatch: pytest.MonkeyPatch, exclude_true: bool
) -> None:
    request = tiny_request(num_forget=5000)
    (labels,) = labels_given(monkeypatch, request, RandomLabelsConfig(epochs=1, exclude_true=exclude_true))
    shifts = (labels - request.data.labels)[request.forget] % NUM_CLASSES
    counts = torch.bincount(shifts, minlength=NUM_CLASSES).numpy()
    if exclude_true:
        assert counts[0] == 0
        counts = counts[1:]
    assert chisquare(counts).pvalue > 1e-3
