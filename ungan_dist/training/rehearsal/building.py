"""Check what a model is built as, and that copies and saved weights are the whole model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ungan_dist.config.user_code import run_user_code
from ungan_dist.training.factories import check_trainable, hash_architecture
from ungan_dist.training.models import frozen_copy, trainable_copy
from ungan_dist.training.rehearsal.side_effects import changed_names, seed_everything, state_of, watch_settings
from ungan_dist.training.weights import load_weights, weights_bytes

Build = Callable[[int], nn.Module]
"""Builds the model with the initial weights of a seed."""
EXACT = 1e-4
"""Largest difference, relative to the largest logit, between the outputs of a model and of its copy."""


def check_build(build: Build, device: torch.device) -> tuple[nn.Module, list[str]]:
    """Build the model several times.

    Returns:
        The model, and notes.

    Raises:
        ValueError: it cannot be trained, is on another device, is not in float32, or is not built anew each time.
    """
    notes: list[str] = []
    with watch_settings("the code of the model", notes=notes), run_user_code("the model cannot be built: that"):
        model, same, other = build(0), build(0), build(1)
    check_trainable(model)
    check_parameters(model, device)
    shared = {value.data_ptr() for value in model.parameters()} & {value.data_ptr() for value in other.parameters()}
    if model is other or shared - {0}:
        raise ValueError(
            "the factory returns the same weights in every call, so all shadow models would be one model: build a new "
            "one in each call"
        )
    if hash_architecture(model) != hash_architecture(other):
        raise ValueError(
            "the factory returns another architecture in every call: let it depend on num_classes and channels alone"
        )
    if changed_names(state_of(model), same):
        notes.append(
            "The initial weights do not follow torch's seed, so repeating the run trains other models: draw them with "
            "torch, not with NumPy or a generator of your own."
        )
    elif not changed_names(state_of(model), other):
        notes.append(
            "Every model starts from the same initial weights, as a pretrained model does. Where the original did not, "
            "leave torch.manual_seed out of the factory."
        )
    return model, notes


def find_unseeded_draws(build: Build, images: Float[Tensor, "batch channels ..."]) -> list[str]:
    """Return a note if outputs in training mode are random otherwise than by torch's seed, which a run sets."""
    outputs: list[object] = []
    for others in (0, 1):
        model = build(0).train()
        with torch.no_grad(), seed_everything(0, others=others), run_user_code("the model in training mode"):
            outputs.append(model(images))
    one, other = outputs
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return []
    if gap(one, other) <= EXACT:
        return []
    return [
        "In training mode the model draws at random otherwise than by torch's seed, so repeating the run trains other "
        "models: draw with torch.rand, not with NumPy, random or a generator of your own."
    ]


def check_parameters(model: nn.Module, device: torch.device) -> None:
    """Check the type and the place of parameters and buffers.

    Raises:
        ValueError: a parameter is not in float32, or is elsewhere.
    """
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.device.type != device.type:
            raise ValueError(
                f"{name} of the model is on {value.device}, the run is on {device}: let the factory place nothing on a "
                f"device of its own choice"
            )
        if value.is_floating_point() and value.dtype != torch.float32 and isinstance(value, nn.Parameter):
            kind = str(value.dtype).removeprefix("torch.")
            raise ValueError(
                f"{name} of the model is in {kind}, and models are trained and evaluated in float32 here: convert the "
                f"model with model.float()"
            )


def check_independent(model: nn.Module, rebuild: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Copy a model, and check that the copy shares no weights with it.

    Args:
        rebuild: see ``copy_model``.

    Returns:
        The copy, frozen and in eval mode.

    Raises:
        ValueError: the model cannot be copied, or shares weights with its copy; it is left as it was.
    """
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    with run_user_code("the model cannot be copied: that"):
        copy = frozen_copy(model, rebuild)
    own = {value.data_ptr() for value in model.parameters()} - {0}
    if any(value.data_ptr() in own for value in copy.parameters()):
        for module, training in modes:
            module.training = training
        for parameter, needed in gradients:
            parameter.requires_grad_(needed)
        raise ValueError("a copy of the model shares weights with it: leave out its own __deepcopy__")
    return copy


def check_copies(
    model: nn.Module,
    images: Float[Tensor, "batch channels ..."],
    rebuild: Callable[[], nn.Module] | None = None,
) -> None:
    """Copy a model that was evaluated, and check that the copy is equal and independent.

    Args:
        rebuild: see ``copy_model``.

    Raises:
        ValueError: the model cannot be copied, or the copy has other outputs or shares weights with the model.
    """
    copies = check_independent(model, rebuild), trainable_copy(model, rebuild=rebuild)
    expected = _evaluate(model.eval(), images)
    for copy in copies:
        if not gap(_evaluate(copy.eval(), images), expected) <= EXACT and torch.isfinite(expected).all():
            raise ValueError(f"a copy of the model has other outputs than the model: {_reason(model)}")


def check_saved(model: nn.Module, build: Build, images: Float[Tensor, "batch channels ..."]) -> None:
    """Save a trained model's weights and load them into a model built anew.

    Raises:
        ValueError: that fails, or the new model has other outputs.
    """
    expected = _evaluate(model.eval(), images)
    with tempfile.TemporaryDirectory(prefix="ungan-dist-rehearsal-") as folder:
        path = Path(folder) / "model.safetensors"
        with run_user_code("the weights of the model cannot be saved and loaded again: that"):
            path.write_bytes(weights_bytes(model))
            loaded = load_weights(build(2), path)
    if gap(_evaluate(loaded, images), expected) > EXACT:
        raise ValueError(f"a model built anew with the saved weights has other outputs: {_reason(model)}")


def check_own_layers(model: nn.Module, images: Float[Tensor, "batch channels ..."]) -> None:
    """Check that a deep copy of a model computes with no layer of the model itself.

    Raises:
        ValueError: it does, because a function that it keeps holds the model.
    """
    parameters = [value for value in model.parameters() if value.requires_grad]
    with seed_everything(0), run_user_code("the model, copied,"):
        logits = frozen_copy(model)(images)
    used = torch.autograd.grad(logits.sum(), parameters, allow_unused=True) if logits.requires_grad else ()
    if any(gradient is not None for gradient in used):
        raise ValueError(
            "a copy of the model computes with layers of the model itself: a lambda or a hook that it keeps holds "
            "self. Make that function a method"
        )


def gap(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two batches of logits, relative to the largest logit."""
    return float((one - other).abs().max()) / (float(other.abs().max()) or 1.0)


@torch.inference_mode()
def _evaluate(model: nn.Module, images: Tensor) -> Tensor:
    with seed_everything(0), run_user_code("the model, copied or loaded again,"):
        return model(images).clone()


def _reason(model: nn.Module) -> str:
    return (
        f"part of the model is not in its state_dict{_unregistered(model)}. Keep layers in nn.ModuleList or "
        f"nn.ModuleDict, other tensors in nn.Parameter or register_buffer, and let no hook or lambda hold self"
    )


def _unregistered(model: nn.Module) -> str:
    """Name a plain list or dict that holds layers, as part of a message."""
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            held = list(value.values()) if isinstance(value, dict) else value
            if attribute.startswith("_") or not isinstance(held, list | tuple):
                continue
            if any(isinstance(item, nn.Module | nn.Parameter) for item in held):
                return f": {name + '.' if name else ''}{attribute} is a plain {type(value).__name__}"
    return ""
