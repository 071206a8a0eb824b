"""A training recipe at work: its optimizer, its loss, its clipping and its average, alike for every engine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.training import TrainConfig
from ungan_dist.training.average import Average
from ungan_dist.training.optimizers import make_optimizer

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(config: TrainConfig) -> Loss:
    """Return the loss: logits and labels → mean cross-entropy over rows, with label smoothing if the recipe has it.

    One training needs one loss: captured steps are known by it.
    """
    if not config.label_smoothing:
        return functional.cross_entropy
    return functools.partial(functional.cross_entropy, label_smoothing=config.label_smoothing)


def choose_optimizer(config: TrainConfig) -> tuple[type[torch.optim.Optimizer], dict[str, Any]]:
    """Return the optimizer's class and its options."""
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return torch.optim.SGD, options | {"momentum": config.momentum, "nesterov": config.nesterov}
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer], options


def make_recipe_optimizer(parameters: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """Create the optimizer of the recipe."""
    kind, options = choose_optimizer(config)
    return make_optimizer(kind, parameters, **options)


def extend_steps(
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    tensors: Callable[[], Iterable[Tensor]],
    *,
    stacked: bool = False,
) -> Average | None:
    """Let each step of the optimizer clip gradients before, and average weights afterwards, if the recipe does.

    Gradients are those of the whole batch, since processes add theirs before the step.

    Args:
        optimizer: The optimizer.
        config: The training recipe.
        tensors: Returns what is averaged.
        stacked: Whether the first dimension of each parameter counts models, whose gradients are clipped separately.

    Returns:
        The average; None if the recipe has none.
    """
    limit = config.gradient_clipping
    if limit is not None:
        optimizer.register_step_pre_hook(lambda *_: _clip(optimizer, limit, stacked))
    if config.ema is None:
        return None
    average = Average(tensors, config.ema)
    optimizer.register_step_post_hook(lambda *_: average.update())
    return average


def _clip(optimizer: torch.optim.Optimizer, limit: float, stacked: bool) -> None:
    """Scale gradients down to a norm over all weights of a model, as ``torch.nn.utils.clip_grad_norm_`` does."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not stacked:
        torch.nn.utils.clip_grad_norm_(parameters, limit)
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([torch.linalg.vector_norm(one.flatten(1), dim=1) for one in gradients]).norm(dim=0)
    scales = (limit / (norms + 1e-6)).clamp(max=1.0)
    for one in gradients:
        one.mul_(scales.view(-1, *(1 for _ in one.shape[1:])))


def describe_recipe(config: TrainConfig) -> str:
    """Describe a training recipe in one line.

    Examples:
        >>> describe_recipe(TrainConfig(epochs=3, warmup_epochs=1)).partition(", batch")[0]
        '3 epochs of SGD'
    """
    if config.function is not None:
        return f"the function {config.function}"
    augment = config.augment
    crop = f"a crop from {augment.padding} pixels of padding" if augment.padding else ""
    changes = " and ".join(part for part in (crop, "a flip" if augment.flip else "", augment.factory) if part)
    schedule = {
        "cosine": "cosine annealing",
        "constant": "no schedule",
        "step": f"a factor of {config.step_factor:g} every {config.step_epochs} epochs",
        "one_cycle": "one cycle",
    }[config.schedule]
    warmup = f"{config.warmup_epochs} epoch(s) of warm-up and " if config.warmup_epochs else ""
    parts = [
        f"{config.epochs} epochs of {choose_optimizer(config)[0].__name__}",
        f"batch {config.batch_size}",
        f"learning rate {config.learning_rate:g} with {warmup}{schedule}",
        f"{'Nesterov ' if config.nesterov else ''}momentum {config.momentum:g}" if config.optimizer == "sgd" else "",
        f"weight decay {config.weight_decay:g}",
        f"label smoothing {config.label_smoothing:g}" if config.label_smoothing else "",
        f"gradients clipped at {config.gradient_clipping:g}" if config.gradient_clipping else "",
        f"an EMA of decay {config.ema:g}" if config.ema else "",
        f"with {changes}" if changes else "without augmentation",
    ]
    return ", ".join(part for part in parts if part)
