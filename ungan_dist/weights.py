"""Weights as files: safetensors, ours and the user's, or a user's plain tensors read with ``weights_only``."""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn


def weights_bytes(model: nn.Module) -> bytes:
    """A model's state as safetensors; weights that layers share are written once for each."""
    state: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, value in model.state_dict().items():
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        # the format refuses two names for one piece of memory
        state[name] = tensor.clone() if place in written else tensor
        written.add(place)
    return safetensors.torch.save(state)


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Loads safetensors into a model and returns it in eval mode.

    Raises:
        ValueError: the weights are of another architecture, or the file is damaged.
    """
    return _with_state(model, path, path.read_bytes(), _safetensors)


@dataclass(frozen=True, kw_only=True)
class GivenWeights:
    """A user's file of weights, as it was when the run was planned."""

    path: str
    """Absolute: safetensors, or a checkpoint of ``torch.save`` that holds a state dict of plain tensors."""
    sha256: str


def given_weights(path: str | Path) -> GivenWeights:
    """Names a file of weights by place and content.

    Raises:
        ValueError: no such file.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist: name a file of weights")
    return GivenWeights(path=str(Path(path).resolve()), sha256=_hash(Path(path).read_bytes()))


def load_given(model: nn.Module, weights: GivenWeights) -> nn.Module:
    """Loads a user's weights into a model of theirs and returns it in eval mode.

    Args:
        model: the architecture; modified.

    Raises:
        ValueError: no such file or another than was planned with, weights of another architecture, a damaged file, or
            one that would run code.
    """
    path = Path(weights.path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist here: every worker must see the given weights at the same place")
    content = path.read_bytes()
    if _hash(content) != weights.sha256:
        raise ValueError(f"{path} has changed since the run began: restore it, or run again")
    return _with_state(model, path, content, _safetensors if path.suffix == ".safetensors" else _checkpoint)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _safetensors(path: Path, content: bytes) -> Any:
    try:
        return safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}): copy or write it again") from error


def _checkpoint(path: Path, content: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: whether it can be read is all that counts
            state: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} holds more than plain tensors, or is damaged ({reason}): nothing in it was run; save "
            f"model.state_dict() with safetensors.torch.save_file"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    return state


LONGEST = 600
"""Characters of torch's list of what does not fit."""


def _with_state(model: nn.Module, path: Path, content: bytes, read: Any) -> nn.Module:
    state = read(path, content)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error)
        reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}…"
        raise ValueError(
            f"{path} does not hold weights of this {type(model).__name__}: name the model that they are of. {reason}"
        ) from error
    return model.eval()
