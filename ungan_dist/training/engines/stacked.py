"""Train many models at once: their weights are stacked, and one step updates all (``torch.func``)."""

from __future__ import annotations

import functools
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from ungan_dist.config.training import TrainConfig
from ungan_dist.data.examples import Examples, draw_batches, gather_rows
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.checkpoint import Checkpoint, Epochs
from ungan_dist.training.copying import copy_model
from ungan_dist.training.recipe import extend_steps, make_loss, make_recipe_optimizer
from ungan_dist.training.schedules import learning_rates
from ungan_dist.training.world import SINGLE_PROCESS


def train_stacked(
    models: list[nn.Module],
    data: Examples,
    indices: list[Int[Tensor, " set"]],
    config: TrainConfig,
    *,
    seeds: list[int],
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train models of one architecture in place, each as if alone, on its own set of the same size.

    Args:
        models: the models.
        data: the examples.
        indices: the training set of each model.
        config: the training recipe.
        seeds: the seed of each model.
        checkpoint: keeps the state of all models after an epoch, and is continued if it holds one.

    Raises:
        ValueError: sets of different sizes.
    """
    if len({len(members) for members in indices}) != 1:
        raise ValueError(f"stacked models need sets of one size, got {sorted({len(members) for members in indices})}")
    # vmap has no rule for the pooling of channels_last, and would take the models one by one
    for model in models:
        model.to(memory_format=torch.contiguous_format)
    skeleton = copy_model(models[0]).train().to("meta")
    parameters, buffers = stack_module_state(models)
    optimizer, loss_of_one = make_recipe_optimizer(parameters.values(), config), make_loss(config)
    average = extend_steps(optimizer, config, lambda: [*parameters.values(), *buffers.values()], stacked=True)

    def single_loss(
        weights: dict[str, Tensor], statistics: dict[str, Tensor], images: Tensor, labels: Tensor
    ) -> Tensor:
        call = functools.partial(functional_call, skeleton, (weights, statistics))
        return loss_of_one(forward(skeleton, images, call=call), labels)

    all_losses = torch.vmap(single_loss)
    state: dict[str, Any] = {f"parameter {name}": parameter for name, parameter in parameters.items()}
    state |= {f"buffer {name}": buffer for name, buffer in buffers.items()}
    state |= {} if average is None else {"average": average}
    epochs = Epochs(checkpoint, SINGLE_PROCESS, seeds[0], optimizer=optimizer, **state)
    for epoch in epochs.iterate("train", config.epochs):
        passes = [
            draw_batches(data, members, config.batch_size, seed=seed, epoch=epoch, augment=config.augment)
            for members, seed in zip(indices, seeds, strict=True)
        ]
        rates = learning_rates(config, epoch, len(passes[0]))
        for rate, *step in zip(rates, *passes, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            images = torch.stack([gather_rows(data, rows).contiguous() for rows in step])
            labels = data.labels[torch.stack([rows.indices for rows in step])]
            # with the sum, each model gets the gradient of its own loss
            loss = all_losses(parameters, buffers, images, labels).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    if average is not None:
        average.write()
    _unstack(models, parameters, buffers)


@torch.no_grad()
def _unstack(models: list[nn.Module], parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> None:
    for position, model in enumerate(models):
        for name, parameter in model.named_parameters():
            parameter.copy_(parameters[name][position])
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name][position])
        model.eval()
