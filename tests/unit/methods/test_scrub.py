"""SCRUB's presets, its fields over them, and the rewind."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_request import tiny_request
from torch import Tensor

from ungan_dist.config.methods import SCRUBConfig
from ungan_dist.methods.request import Request
from ungan_dist.methods.scrub import scrub


def test_a_given_field_replaces_only_its_preset() -> None:
    preset = SCRUBConfig(preset="mia").settings()
    assert SCRUBConfig(preset="mia", alpha=0.0, msteps=0).settings() == dataclasses.replace(preset, alpha=0.0, msteps=0)


def test_scrub_without_forget_passes_has_no_forget_divergence() -> None:
    curves = scrub(tiny_request(), SCRUBConfig(msteps=0, epochs=2)).curves
    assert len(curves["retain loss"]) == 2
    assert curves["forget divergence"] == []


def error(request: Request, state: dict[str, Tensor], indices: Tensor) -> float:
    """Share of a set that a model with these weights gets wrong, in eval mode, from pixels by hand."""
    model = tiny_request().fresh
    model.load_state_dict(state)
    images = request.data.images[indices].permute(0, 3, 1, 2).double()
    logits = model.eval()((images / 255 - 0.5) / 0.25)
    return float((logits.argmax(dim=1) != request.data.labels[indices]).double().mean())


@pytest.mark.parametrize("seed", range(2))
def test_rewind_returns_the_epoch_nearest_the_final_unseen_error(seed: int) -> None:
    request, epochs = tiny_request(seed=seed), 4
    sizes = {"retain_batch_size": 8, "forget_batch_size": 8}
    config = SCRUBConfig(preset="mia", epochs=epochs, msteps=3, learning_rate=0.1, **sizes)
    states = [
        scrub(request, dataclasses.replace(config, epochs=epoch)).model.state_dict() for epoch in range(1, epochs + 1)
    ]
    reference = error(request, states[-1], request.unseen)
    gaps = [abs(error(request, state, request.forget) - reference) for state in states]
    rewound = scrub(request, dataclasses.replace(config, rewind=True)).model.state_dict()
    same = [all(torch.equal(rewound[name], value) for name, value in state.items()) for state in states]
    assert same == [epoch == gaps.index(min(gaps)) for epoch in range(epochs)]
    assert len(set(gaps)) > 1
