"""Perform a rehearsal: do everything that a run does to a user's model once, in the order of the run."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ungan_dist.config.training import CAPTURING, ModelConfig, TrainConfig
from ungan_dist.config.user_code import add_import_path
from ungan_dist.data.examples import Examples, gather, hold_examples
from ungan_dist.methods import Request
from ungan_dist.runs.rehearsal.methods import rehearse_methods
from ungan_dist.training.engines.capture import CapturedSteps
from ungan_dist.training.engines.passes import without_fused_crops
from ungan_dist.training.evaluate import BATCH_SIZE
from ungan_dist.training.given_weights import GivenWeights, load_given_weights
from ungan_dist.training.models import build, frozen_copy, is_channels_last, use_memory_format
from ungan_dist.training.precision import use_precision
from ungan_dist.training.rehearsal.augmentation import check_transform
from ungan_dist.training.rehearsal.building import check_build, check_copies, check_saved, find_unseeded_draws
from ungan_dist.training.rehearsal.evaluation import Evaluated, check_evaluation
from ungan_dist.training.rehearsal.steps import (
    MAX_BATCH,
    check_captured,
    check_stacked,
    check_training,
    check_training_function,
    smallest_batch,
)
from ungan_dist.training.train import use_threads
from ungan_dist.training.world import World

BUILDING = "building the model"
"""The first step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rehearsal:
    """Everything a worker needs to rehearse a run; it carries its own examples."""

    model: ModelConfig
    train: TrainConfig
    methods: Mapping[str, Any]
    """Chosen methods, with their options."""
    given: tuple[GivenWeights, ...]
    images: UInt8[np.ndarray, "examples height width channels"] | Float[np.ndarray, "examples ..."]
    labels: Int[np.ndarray, " examples"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    sets: Mapping[str, Int[np.ndarray, " set"]]
    """Positions of the retain, forget and unseen examples in the images."""
    set_sizes: Mapping[str, int]
    """Sizes of the run's sets."""
    engine: str
    device: str
    fused: tuple[str, ...]
    code: str | None
    """Folder that the user's factory is imported from."""
    limit_s: float | None = None
    """Seconds after which the rehearsal is cut short; the start of its process does not count. ``None``: never."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What a rehearsal found."""

    error: str = ""
    """Why the run would fail or be in vain, and the remedy; empty if it would not."""
    notes: tuple[str, ...] = ()
    """Properties of the model that the report must state."""
    summary: str = ""
    """What was tried, and how long it took."""


def perform(rehearsal: Rehearsal, stage_file: Path) -> Findings:
    """Perform a rehearsal in this process.

    Args:
        rehearsal: What to rehearse.
        stage_file: Receives the name of each step before it is done.
    """

    def begin(stage: str) -> None:
        draft = stage_file.with_suffix(".new")
        draft.write_text(stage)
        draft.replace(stage_file)

    start = time.perf_counter()
    torch.set_num_threads(1)
    try:
        with use_threads(rehearsal.train.num_threads), use_precision(rehearsal.train.precision):
            notes, evaluated = _check(rehearsal, begin)
    except ValueError as error:
        return Findings(error=str(error))
    left_out = ", ".join(f"{size:,}" for size in evaluated.left_out)
    done = (
        f"the model, {len(rehearsal.methods)} method(s) and {evaluated.num_examples} examples, each alone and in "
        f"company, in {time.perf_counter() - start:.1f} s"
    )
    rest = f"; batches of {left_out} would have taken too long" if left_out else ""
    return Findings(notes=tuple(dict.fromkeys(notes)), summary=f"{done}{rest}")


def _check(rehearsal: Rehearsal, begin: Callable[[str], None]) -> tuple[list[str], Evaluated]:
    """Do everything that a run does, in its order: build, train, evaluate, copy, save, unlearn.

    Returns:
        Notes, and what was evaluated.
    """
    begin(BUILDING)
    add_import_path(rehearsal.code)
    device, train = torch.device(rehearsal.device), rehearsal.train
    data = _examples(rehearsal, device)
    (channels, *size), num_classes = data.input_shape, rehearsal.num_classes

    def new_model(seed: int) -> nn.Module:
        model = build(
            rehearsal.model, channels=channels, num_classes=num_classes, seed=seed, device=device, size=tuple(size)
        )
        return use_memory_format(model, rehearsal.model, train.memory_format)

    rebuild = None if rehearsal.model.factory is None else functools.partial(new_model, 3)
    model, notes = check_build(new_model, device)
    channels_last = is_channels_last(model, rehearsal.model, train.memory_format)
    data = dataclasses.replace(data, channels_last=channels_last)
    retain, forget, unseen = (
        torch.from_numpy(rehearsal.sets[name]).to(device) for name in ("retain", "forget", "unseen")
    )
    sizes = rehearsal.set_sizes
    begin("evaluating examples")
    # one example of each set first: a slow model evaluates a few alone
    order = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(0))
    sample = gather(data, order.to(device))
    evaluated = check_evaluation(
        model.eval(),
        sample,
        batch_sizes=_batch_sizes(sizes.values()),
        num_classes=num_classes,
        weights="its initial weights",
    )
    if train.augment.factory is not None:
        begin(f"augmenting by {train.augment.factory}")
        check_transform(data, retain, train.augment)
    begin("a training step")
    notes = notes or find_unseeded_draws(new_model, sample[:MAX_BATCH])
    shadow_size = smallest_batch(sizes["pool"] // 2, train.batch_size)
    check_training(model, data, retain, train, batch_size=min(shadow_size, MAX_BATCH))
    if train.function is not None:
        begin(f"training by {train.function}")
        model, note = check_training_function(new_model, data, retain, train)
        notes = [*notes, *([note] if note else [])]
    begin("copying and saving a trained model")
    # before an evaluation replaces tensors that training left behind
    check_copies(model, sample[:MAX_BATCH], rebuild)
    if _is_finite(model, sample[:MAX_BATCH]):  # after a step on so few examples a sound model may have diverged
        check_evaluation(model.eval(), sample, num_classes=num_classes, weights="weights after one step", seconds=0.3)
        check_saved(model, new_model, sample[:MAX_BATCH])
    if rehearsal.engine in CAPTURING:
        begin("a captured training step")
        check_captured(new_model, data, retain, train, batch_size=min(shadow_size, MAX_BATCH))
    if rehearsal.engine == "stacked":
        begin("a training step of stacked shadow models")
        check_stacked(new_model, data, retain, train, batch_size=min(shadow_size, MAX_BATCH))
    for weights in rehearsal.given:
        begin(f"evaluating {weights.path}")
        model = load_given_weights(new_model(0), weights)
        check_evaluation(model, sample, num_classes=num_classes, weights=f"the weights of {weights.path}", seconds=0.5)
    request = Request(
        original=frozen_copy(model, rebuild),
        fresh=new_model(1),
        data=without_fused_crops(data) if rehearsal.engine in CAPTURING else data,
        retain=retain,
        forget=forget,
        unseen=unseen,
        train=train,
        seed=0,
        world=World(device=device),
        rebuild=rebuild,
        steps=CapturedSteps(device) if rehearsal.engine in CAPTURING else None,
    )
    rehearse_methods(request, rehearsal.methods, num_retain=sizes["retain"], num_forget=sizes["forget"], begin=begin)
    return [*notes, *evaluated.notes], evaluated


@torch.inference_mode()
def _is_finite(model: nn.Module, images: Tensor) -> bool:
    return bool(torch.isfinite(model.eval()(images)).all())


def _batch_sizes(set_sizes: Iterable[int]) -> set[int]:
    """Return every size of a batch in the evaluation of these sets."""
    return {size for number in set_sizes for size in (min(number, BATCH_SIZE), number % BATCH_SIZE) if size}


def _examples(rehearsal: Rehearsal, device: torch.device) -> Examples:
    return hold_examples(
        rehearsal.images,
        rehearsal.labels,
        mean=rehearsal.mean,
        std=rehearsal.std,
        num_classes=rehearsal.num_classes,
        device=device,
        fused=rehearsal.fused,
    )
