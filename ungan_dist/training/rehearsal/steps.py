"""Check one training step of a model: alone, captured, and stacked with others."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ungan_dist.config.training import TrainConfig
from ungan_dist.config.user_code import run_user_code
from ungan_dist.data.examples import Examples, gather
from ungan_dist.data.seeds import seed_layers
from ungan_dist.training.engines.slot import Slot
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.probing import check_logits, describe_shape
from ungan_dist.training.rehearsal.building import Build
from ungan_dist.training.rehearsal.side_effects import seed_everything, watch_input, watch_settings
from ungan_dist.training.train import train

MAX_BATCH = 4
"""Largest batch of a rehearsed step. A model that takes it takes larger ones."""


MAX_TRAINED = 16
"""Examples that a training function of the user's own is tried on."""


MAX_LEARNING_RATE = 1e-3
"""Highest learning rate of a rehearsed step of training."""


def smallest_batch(num_examples: int, batch_size: int) -> int:
    """Return the smallest batch of one pass over a set.

    Examples:
        >>> smallest_batch(1026, 256), smallest_batch(1024, 256), smallest_batch(1, 256)
        (2, 256, 1)
    """
    return num_examples % batch_size or batch_size


def check_training(
    model: nn.Module, data: Examples, indices: Int[Tensor, " set"], config: TrainConfig, *, batch_size: int
) -> None:
    """Train the model in place for one epoch of small batches.

    Raises:
        ValueError: the model raises, or its outputs in training mode are no logits with a gradient.
    """
    # two, since a batch norm in training mode cannot normalise one, which ``train`` allows for
    images = gather(data, indices[torch.arange(max(batch_size, 2), device=indices.device) % len(indices)])
    subject = f"the model cannot take {describe_shape(tuple(images.shape[1:]))} in training mode: it"
    states: list[Tensor] = []
    for seed in (0, 1):
        with (
            watch_settings("forward of the model"),
            watch_input(images),
            run_user_code(subject),
            seed_everything(seed),
        ):
            outputs: object = model.train()(images)
            states.append(torch.get_rng_state())
        logits = check_logits(outputs, images, data.num_classes, model=model, weights="its initial weights")
        if not logits.requires_grad:
            raise ValueError(
                "the outputs of the model have no gradient in training mode, so nothing would be trained: leave "
                "torch.no_grad(), torch.inference_mode() and .detach() out of its forward"
            )
    if torch.equal(*states):
        raise ValueError(
            "forward of the model calls torch.manual_seed, which would draw the same numbers in every step: leave it "
            "out; layers that draw at random are seeded by the run"
        )
    if config.function is not None:
        return
    with (
        run_user_code(f"the model cannot be trained in batches of {batch_size}: one step"),
        seed_layers("rehearsal"),
    ):
        train(model, data, indices[:batch_size], shorten_training(config, batch_size), seed=0)


def check_training_function(
    build: Build, data: Examples, indices: Int[Tensor, " set"], config: TrainConfig
) -> tuple[nn.Module, str]:
    """Train a model by the user's function on a few examples, and again with the same seed.

    Returns:
        The trained model, and a note if its results are not repeatable, which the recipe then accepts.

    Raises:
        ValueError: The function fails, or gives two results for one seed.
    """
    models = [build(0), build(0)]
    for model in models:
        subject = f"train.function {config.function}, with {len(indices[:MAX_TRAINED])} examples,"
        with run_user_code(subject), seed_layers("rehearsal"):
            train(model, data, indices[:MAX_TRAINED], config, seed=0)
    first, second = (model.state_dict() for model in models)
    differing = [name for name, value in first.items() if not _is_same(value, second[name])]
    if not differing:
        return models[0], ""
    if config.nondeterministic:
        return models[0], (
            f"The training function {config.function} gives two results for one seed: no model of this run can be "
            f"trained again to the same bits, and a killed unit begins with other draws."
        )
    raise ValueError(
        f"train.function {config.function} gave two results for one seed, which differ in {differing[0]}: let every "
        f"draw follow from seed, such as by torch.Generator().manual_seed(seed) for the DataLoader, or accept it with "
        f"--train.nondeterministic"
    )


def _is_same(ours: object, theirs: object) -> bool:
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return torch.equal(ours.nan_to_num(), theirs.nan_to_num())
    return repr(ours) == repr(theirs)


def check_captured(
    build: Build, data: Examples, indices: Int[Tensor, " set"], config: TrainConfig, *, batch_size: int
) -> None:
    """Capture a step of small batches, and train a model by it.

    Raises:
        ValueError: The step cannot be captured.
    """
    some, short = indices[: max(batch_size, 2)], shorten_training(config, max(batch_size, 2))
    try:
        with seed_layers("rehearsal"):
            slot = Slot([build(0)], data, short, len(some))
            slot.train([build(1)], [some], seeds=[0])
    except Exception as error:  # user code may raise anything
        reason = str(error).strip().splitlines()
        raise ValueError(f"{reason[0] if reason else type(error).__name__}; use --shadows.engine serial") from error


def check_stacked(
    build: Build, data: Examples, indices: Int[Tensor, " set"], config: TrainConfig, *, batch_size: int
) -> None:
    """Train two stacked models for one epoch of small batches.

    Raises:
        ValueError: ``torch.vmap`` cannot run the model.
    """
    some = indices[:batch_size]
    try:
        with seed_layers("rehearsal"):
            train_stacked([build(0), build(1)], data, [some, some], shorten_training(config, batch_size), seeds=[0, 1])
    except Exception as error:  # user code may raise anything
        reason = str(error).strip().splitlines()
        raise ValueError(
            f"the model cannot be trained stacked with others ({type(error).__name__}: {reason[0] if reason else ''}); "
            f"torch.vmap refuses dropout, for example: use --shadows.engine serial"
        ) from error


def shorten_training(config: TrainConfig, batch_size: int) -> TrainConfig:
    """Return the training recipe for one epoch of small batches, in one process.

    The learning rate is low: a step on so few examples at the run's own rate makes some sound models diverge.
    """
    rate = min(config.learning_rate, MAX_LEARNING_RATE)
    return dataclasses.replace(config, epochs=1, batch_size=batch_size, num_workers=1, learning_rate=rate)
