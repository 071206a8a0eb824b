"""``unlearn`` takes a function of the user's, with typed options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

import ungan_dist
from ungan_dist.methods import Request


@dataclass(frozen=True)
class Options:
    factor: float = 0.5


def data() -> ungan_dist.ForgetData:
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 1), np.uint8)
    labels = np.arange(30) % 3
    return ungan_dist.ForgetData(
        images=images, labels=labels, forget=range(10), retain=range(10, 20), unseen=range(20, 30)
    )


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def test_a_function_defined_anywhere_unlearns_with_its_options() -> None:
    def scale(request: Request, options: Options) -> nn.Module:
        scaled = request.copy_original()
        with torch.no_grad():
            for weight in scaled.parameters():
                weight.mul_(options.factor)
        return scaled

    given = model()
    for options, factor in ((None, 0.5), (Options(factor=0.25), 0.25)):
        unlearned = ungan_dist.unlearn(given, data(), scale, options=options)
        assert not unlearned.training
        assert torch.equal(unlearned[1].weight, given[1].weight * factor)


def test_options_of_another_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes no options, got Options\(factor=0.5\)"):
        ungan_dist.unlearn(model(), data(), lambda request: request.copy_fresh(), options=Options())
    with pytest.raises(ValueError, match="the options of fine_tuning are a part of config"):
        ungan_dist.unlearn(model(), data(), "fine_tuning", options=Options())
