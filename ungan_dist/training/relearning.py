"""Relearning: how fast a model learns the forget set again from a few examples of it.

A model that only hides the forget examples learns the rest of them faster than a retrained one.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float64, Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.training import TrainConfig
from ungan_dist.data.examples import Examples, gather
from ungan_dist.data.seeds import derive_seed
from ungan_dist.training.evaluate import accuracy
from ungan_dist.training.recipe import make_recipe_optimizer

FRACTION = 0.1
"""Fraction of the forget set that is shown again."""
NUM_STEPS = 20
RATE = 0.1
"""Learning rate, as a fraction of the recipe's."""


def choose_shown(
    forget: Int[Tensor, " forget"], seed: int, most: int
) -> tuple[Int[Tensor, " shown"], Int[Tensor, " rest"]]:
    """Divide the forget set into the examples that are shown again, and the rest. All models of a seed share them.

    Args:
        forget: D_f, at least two examples.
        seed: the audit seed.
        most: most examples to show, those of a batch.

    Examples:
        >>> shown, rest = choose_shown(torch.arange(30), seed=0, most=64)
        >>> len(shown), len(rest)
        (3, 27)
    """
    if len(forget) < 2:
        raise ValueError(f"relearning needs at least 2 forget examples, one to show and one to test; got {len(forget)}")
    number = min(max(1, round(FRACTION * len(forget))), most)
    order = np.random.Generator(np.random.Philox(derive_seed("relearning", seed))).permutation(len(forget))
    places = torch.from_numpy(order).to(forget.device)
    return forget[places[:number]], forget[places[number:]]


def relearn(
    model: nn.Module, data: Examples, forget: Int[Tensor, " forget"], config: TrainConfig, *, seed: int
) -> Float64[np.ndarray, " steps_and_one"]:
    """Fine-tune a model on a tenth of the forget set, and measure its accuracy on the rest.

    Each step takes all shown examples, not augmented, with the recipe's optimizer at a tenth of its learning rate. The
    model is in eval mode, so that no statistics of batches and no random layers matter.

    Args:
        model: trainable; modified.
        data: the data.
        forget: D_f.
        config: the training recipe.
        seed: the audit seed.

    Returns:
        The accuracy before the first step, and after each step.
    """
    shown, rest = choose_shown(forget, seed, config.batch_size)
    images, labels = gather(data, shown), data.labels[shown]
    model.eval()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    slower = dataclasses.replace(config, learning_rate=RATE * config.learning_rate)
    optimizer = make_recipe_optimizer(parameters, slower)
    curve = [accuracy(model, data, rest)]
    for _ in range(NUM_STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        curve.append(accuracy(model, data, rest))
    return np.array(curve)
