"""Weights as files: safetensors, ours and the user's; nothing is unpickled."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn


def weights_bytes(model: nn.Module) -> bytes:
    """A model's state as safetensors."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return safetensors.torch.save(state)


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Loads safetensors into a model and returns it in eval mode.

    Raises:
        ValueError: the weights are of another architecture, or the file is damaged.
    """
    try:
        state: dict[str, Tensor] = safetensors.torch.load(path.read_bytes())
        model.load_state_dict(state)
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} does not hold weights of this {type(model).__name__}: {error}") from error
    return model.eval()


def load_given(model: nn.Module, path: Path) -> nn.Module:
    """Loads a user's weights into a model of theirs and returns it in eval mode.

    Args:
        model: the architecture; modified.
        path: safetensors, or a checkpoint of ``torch.save`` that holds a state dict of plain tensors.

    Raises:
        ValueError: no such file, weights of another architecture, a damaged file, or one that would run code.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: name a file of weights")
    if path.suffix == ".safetensors":
        return load_weights(model, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: whether it can be read is all that counts
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} holds more than plain tensors, or is damaged ({reason}): nothing in it was run; save "
            f"model.state_dict() with safetensors.torch.save_file"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold weights of this {type(model).__name__}: {error}") from error
    return model.eval()


def file_hash(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
