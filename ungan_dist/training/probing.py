"""Probe a model on random images before anything is trained: its outputs, and whether processes can share a batch."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.training import ModelConfig
from ungan_dist.config.user_code import add_import_path, run_user_code
from ungan_dist.data.seeds import seed_layers
from ungan_dist.data.sources.source import Source
from ungan_dist.files import hash_bytes
from ungan_dist.training.batch_norm import use_global_statistics
from ungan_dist.training.factories import check_trainable, hash_architecture
from ungan_dist.training.first_layer import fit_first_layer
from ungan_dist.training.given_weights import GivenWeights, locate_given_weights, select_weights
from ungan_dist.training.models import build
from ungan_dist.training.weights import load_state, weights_bytes
from ungan_dist.training.world import World
from ungan_dist.worker_process import WorkerDied, run_in_process

BUILD_LIMIT_S = 300.0
"""Longest time for starting a process, importing the user's code and building the model."""


def check_building(config: AuditConfig, source: Source) -> None:
    """Build a user's model in a process of its own, before this process does.

    Errors that the code raises are left to the build in this process.

    Raises:
        ValueError: the code ends the process, or does not return.
    """
    if config.model.factory is not None:
        _build_elsewhere(config.model, source.input_shape, source.num_classes, os.getcwd())


@functools.lru_cache(maxsize=4)
def _build_elsewhere(model: ModelConfig, shape: tuple[int, ...], num_classes: int, code: str) -> None:
    subject = f"model.factory {model.factory}"
    try:
        run_in_process(_try_to_build, model, shape, num_classes, code, timeout_s=BUILD_LIMIT_S)
    except WorkerDied as error:
        raise ValueError(
            f"{subject}: {error} when the model was built, and the run would end in the same way. Leave out what ends "
            f"the process, or use a smaller model if memory ran out"
        ) from error
    except TimeoutError as error:
        raise ValueError(
            f"{subject}: the model was not built within {BUILD_LIMIT_S:.0f} s. Its code waits for something, such as a "
            f"download or an input: leave that out"
        ) from error


def _try_to_build(model: ModelConfig, shape: tuple[int, ...], num_classes: int, code: str) -> None:
    add_import_path(code)
    with contextlib.suppress(ValueError):
        device = torch.device("cpu")
        build(model, channels=shape[0], num_classes=num_classes, seed=0, device=device, size=shape[1:])


def check_models(config: AuditConfig, source: Source) -> tuple[str, list[str]]:
    """Build the classifier and load each given file of weights; ``runs.rehearsal`` then calls it.

    Returns:
        Hash of the architecture of a user's model, empty for a built-in model; and notes on its first layer and on what
        was read from files of weights.

    Raises:
        ValueError: the factory fails, the model cannot be trained, weights do not fit, or a retrained model has the
            weights of the original or of the unlearned model.
    """
    files = locate_given_weights(config.given)
    if config.model.factory is None and not files:
        return "", []
    model, note = _build(config, source)
    check_trainable(model)
    notes = [note] if note else []
    loaded: dict[str, str] = {}
    for name, weights in files.items():
        selection = select_weights(model, weights)
        load_state(model, Path(weights.path), selection.state)
        loaded[name] = hash_bytes(weights_bytes(model))
        notes += [selection.note] if selection.note else []
    _refuse_equal_reference(files, loaded)
    return "" if config.model.factory is None else hash_architecture(model), notes


def _refuse_equal_reference(files: Mapping[str, GivenWeights], loaded: Mapping[str, str]) -> None:
    """Refuse a retrained model with the weights of another given model: a gap of 0 to it would pass as equivalent.

    Args:
        files: name → file.
        loaded: name → hash of the weights as the model holds them, the same in every file format and precision.
    """
    for name in ("original", "unlearned"):
        if name in loaded and loaded[name] == loaded.get("retrained"):
            raise ValueError(
                f"--retrained {files['retrained'].path} and --{name} {files[name].path} hold the same weights: the "
                f"verdict is measured from a model that was trained without the forget set, so name that model by "
                f"--retrained, or leave --retrained out"
            )


def check_data_parallel(config: AuditConfig, source: Source) -> list[str]:
    """Check that several processes can share the classifier's batches: empty shares, batch norms, random layers.

    Returns:
        Notes for the report.

    Raises:
        ValueError: the model cannot be trained by several processes.
    """
    if config.train.num_workers == 1:
        return []
    model, _ = _build(config, source)
    _check_empty_batch(model, random_inputs(0, source.input_shape))
    if config.train.sync_batch_norm:
        use_global_statistics(model, World())
    if not _is_random(model, random_inputs(2, source.input_shape)):
        return []
    return [
        f"The model draws at random inside its layers, as dropout does: {config.train.num_workers} processes that "
        f"share a batch draw otherwise than one, so what they train differs from one process's by more than rounding."
    ]


def random_inputs(number: int, shape: tuple[int, ...]) -> Float[Tensor, "batch channels ..."]:
    """Draw normal images, or rows of a table, the same in every call."""
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(0))


def probe(
    model: nn.Module,
    images: Float[Tensor, "batch channels ..."],
    num_classes: int | None = None,
    *,
    weights: str = "its weights",
) -> Float[Tensor, "batch classes"]:
    """Evaluate a model and check its logits.

    Args:
        num_classes: expected number of logits; by default any number is accepted.
        weights: names the model's weights in error messages.

    Raises:
        ValueError: the model raises, or does not return finite logits ``[batch, classes]``.
    """
    shape = tuple(images.shape[1:])
    with (
        run_user_code(f"the model cannot take {describe_shape(shape)}: it"),
        torch.no_grad(),
        seed_layers("check"),
    ):
        outputs: object = model(images)
    return check_logits(outputs, images, num_classes, model=model, weights=weights)


def describe_shape(shape: tuple[int, ...]) -> str:
    """Describe what a model is given, for messages.

    Examples:
        >>> describe_shape((3, 8, 8)), describe_shape((30,))
        ('images of shape (3, 8, 8) (channels, height, width)', 'features of shape (30,)')
    """
    return f"images of shape {shape} (channels, height, width)" if len(shape) == 3 else f"features of shape {shape}"


def check_logits(
    outputs: object,
    images: Float[Tensor, "batch channels ..."],
    num_classes: int | None,
    *,
    model: nn.Module,
    weights: str,
) -> Float[Tensor, "batch classes"]:
    """Check what a model returned for a batch of images.

    Raises:
        ValueError: it is not finite float32 logits ``[batch, classes]`` on the images' device.
    """
    needed = f"logits [batch, {num_classes or 'classes'}] are needed"
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"the model returns {type(outputs).__name__}, {needed}: let its forward return "
            f"logits, alone, named logits, or first in a tuple"
        )
    if outputs.ndim != 2 or len(outputs) != len(images):
        raise ValueError(f"the model returns shape {tuple(outputs.shape)} for {len(images)} images, {needed}")
    if num_classes is not None and outputs.shape[1] != num_classes:
        raise ValueError(
            f"the model returns {outputs.shape[1]} logits per image, {num_classes} classes are needed: let the factory "
            f"use num_classes"
        )
    if outputs.shape[1] < 2:
        raise ValueError("the model returns one output per image: let it return one logit per class, two at least")
    if outputs.dtype != torch.float32:
        kind = str(outputs.dtype).removeprefix("torch.")
        remedy = "end its forward with .float()" if outputs.is_floating_point() else "leave out its last argmax"
        raise ValueError(f"the model returns {kind}, float32 logits are needed: {remedy}")
    if outputs.device != images.device:
        raise ValueError(
            f"the model returns its outputs on {outputs.device} for images on {images.device}: move no tensor to a "
            f"device of your own choice in its forward"
        )
    if not torch.isfinite(outputs).all():
        raise ValueError(
            f"the outputs of the model ({type(model).__name__}) are not finite with {weights}: look for infinities or "
            f"NaN in its layers and weights"
        )
    return outputs


def _build(config: AuditConfig, source: Source) -> tuple[nn.Module, str]:
    """Build the classifier; also return the note on the first layer of a user's model, empty if it fits the images."""
    (channels, *rest), device = source.input_shape, torch.device("cpu")
    is_own, size = config.model.factory is not None, tuple(rest)
    model = build(
        config.model,
        channels=channels,
        num_classes=source.num_classes,
        seed=0,
        device=device,
        size=size,
        fit=False,
    )
    if not is_own:
        return model, ""
    with seed_layers("check"):
        return model, fit_first_layer(model, channels, size)


def _check_empty_batch(model: nn.Module, nothing: Float[Tensor, "0 channels ..."]) -> None:
    for training in (True, False):
        try:
            with torch.no_grad(), seed_layers("check"):
                model.train(training)(nothing)
        except Exception as error:  # user code may raise anything
            raise ValueError(
                f"the model cannot take an empty batch, which is a process's share of a small batch "
                f"({type(error).__name__}: {error}): write x.flatten(1) for x.view(x.size(0), -1), or use "
                f"--train.num-workers 1"
            ) from error


def _is_random(model: nn.Module, images: Float[Tensor, "batch channels ..."]) -> bool:
    """Whether the outputs in training mode depend on the random state."""
    outputs: list[Tensor] = []
    model.train()
    for seed in (0, 1):
        with torch.no_grad(), seed_layers("check", seed):
            outputs.append(model(images))
    return not torch.equal(*outputs)
