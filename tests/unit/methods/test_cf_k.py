"""CF-k keeps frozen stages bit for bit and trains the right ones."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_request import tiny_request
from torch import nn

from ungan_dist.config.methods import CFkConfig
from ungan_dist.config.training import ModelConfig
from ungan_dist.methods.cf_k import cf_k
from ungan_dist.methods.request import Request
from ungan_dist.training.models import stages

PARAMETERS, STATISTICS = "parameters", "statistics"


def moved(request: Request, config: CFkConfig) -> list[set[str]]:
    """Return for each stage whether its parameters, its batch-norm statistics or both have changed."""
    unlearned = cf_k(request, config).model
    changes: list[set[str]] = []
    for before, after in zip(stages(request.original), stages(unlearned), strict=True):
        names = {
            name for name, value in before.state_dict().items() if not torch.equal(value, after.state_dict()[name])
        }
        parameters = dict(before.named_parameters())
        changes.append({PARAMETERS if name in parameters else STATISTICS for name in names})
    return changes


BOTH = {PARAMETERS, STATISTICS}
"""The last stage, the classifying layer, has no statistics."""


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (CFkConfig(), [set(), set(), BOTH, {PARAMETERS}]),
        (CFkConfig(k=1), [set(), set(), set(), {PARAMETERS}]),
        (CFkConfig(k=4), [BOTH, BOTH, BOTH, {PARAMETERS}]),
        (CFkConfig(k=2, train_classifier=False), [set(), set(), BOTH, set()]),
        (CFkConfig(update_frozen_statistics=True), [{STATISTICS}, {STATISTICS}, BOTH, {PARAMETERS}]),
    ],
    ids=lambda value: repr([sorted(part) for part in value] if isinstance(value, list) else value),
)
def test_only_the_last_stages_of_the_small_cnn_are_trained(config: CFkConfig, expected: list[set[str]]) -> None:
    assert moved(tiny_request(), config) == expected


def test_a_resnet_trains_layer3_layer4_and_fc() -> None:
    request = tiny_request(dtype=torch.float32, model=ModelConfig(name="resnet18"))
    request = dataclasses.replace(request, retain=request.retain[:8])
    assert moved(request, CFkConfig(epochs=1)) == [set(), set(), set(), BOTH, BOTH, {PARAMETERS}]


def test_more_stages_than_the_model_has_are_refused() -> None:
    with pytest.raises(ValueError, match="5 exceeds the 4 stages of SmallCNN"):
        cf_k(tiny_request(), CFkConfig(k=5))


def test_stages_of_a_user_model_are_its_parts_with_parameters() -> None:
    parts = [nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3)), nn.Linear(3, 4)]
    model = nn.Module()
    model.features, model.head = parts
    assert stages(model) == [parts[0][0], parts[0][2], parts[1]]


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no stages with parameters"):
        stages(nn.Sequential(nn.Flatten()))
