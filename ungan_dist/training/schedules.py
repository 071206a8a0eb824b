"""Learning rates of a training recipe, step by step."""

from __future__ import annotations

import math

from ungan_dist.config.training import TrainConfig

START, END = 25.0, 1e4
"""One cycle begins at the highest rate divided by START, and ends at that divided by END, as torch's does."""
RISE = 0.3
"""Part of one cycle in which the rate rises, without ``train.warmup_epochs``."""


def cosine_annealing(learning_rate: float, epoch: int, epochs: int) -> float:
    """Return the epoch's learning rate: the initial rate at epoch 0, near 0 in the last epoch."""
    return learning_rate * (1 + math.cos(math.pi * epoch / epochs)) / 2


def learning_rates(config: TrainConfig, epoch: int, num_steps: int) -> list[float]:
    """Return the learning rate of every step of an epoch.

    Args:
        config: The training recipe.
        epoch: The epoch, counted from 0.
        num_steps: Number of steps in each epoch.

    Examples:
        >>> learning_rates(TrainConfig(epochs=4, learning_rate=0.8, warmup_epochs=1, schedule="constant"), 0, 2)
        [0.4, 0.4]
    """
    if config.schedule == "one_cycle":
        return [_one_cycle(config, epoch * num_steps + step, num_steps) for step in range(num_steps)]
    return [_rate_of_epoch(config, epoch)] * num_steps


def _rate_of_epoch(config: TrainConfig, epoch: int) -> float:
    rate, warmup = config.learning_rate, config.warmup_epochs
    if epoch < warmup:
        return rate * (epoch + 1) / (warmup + 1)
    if config.schedule == "constant":
        return rate
    if config.schedule == "step":
        return rate * config.step_factor ** ((epoch - warmup) // config.step_epochs)
    return cosine_annealing(rate, epoch - warmup, config.epochs - warmup)


def _one_cycle(config: TrainConfig, step: int, num_steps: int) -> float:
    highest, total = config.learning_rate, config.epochs * num_steps
    top = (config.warmup_epochs * num_steps or RISE * total) - 1
    if step <= top:
        return _anneal(highest / START, highest, step / top) if top else highest
    return _anneal(highest, highest / START / END, (step - top) / (total - 1 - top))


def _anneal(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * part))
