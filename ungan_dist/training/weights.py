"""Weights of our own models as safetensors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn


def weights_bytes(model: nn.Module) -> bytes:
    """Serialise a model's state as safetensors; weights shared between layers are written once per layer.

    State that is no tensor, from ``get_extra_state``, is written as the bytes of a checkpoint.

    Raises:
        ValueError: the extra state holds more than tensors, numbers, text, lists and dicts.
    """
    state: dict[str, Tensor] = {}
    written: set[int] = set()
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            state[name] = _encode_extra_state(name, value)
            continue
        tensor = value.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        # safetensors refuses two names for the same memory
        state[name] = tensor.clone() if place in written else tensor
        written.add(place)
    return safetensors.torch.save(state)


def _encode_extra_state(name: str, value: Any) -> Tensor:
    content = io.BytesIO()
    try:
        torch.save(value, content)
        torch.load(io.BytesIO(content.getvalue()), weights_only=True)
    except Exception as error:  # pickling runs the value's own code
        raise ValueError(
            f"the model's state {name} holds {type(value).__name__}, which cannot be stored without code: let "
            f"get_extra_state return tensors, numbers, text, lists and dicts alone"
        ) from error
    return torch.frombuffer(content.getbuffer(), dtype=torch.uint8)


def load_weights(model: nn.Module, path: Path) -> nn.Module:
    """Load safetensors into a model and return it in eval mode.

    Raises:
        ValueError: weights of another architecture, or a damaged file.
    """
    return load_state(model, path, read_safetensors(path, path.read_bytes()))


def read_safetensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """Decode the bytes of a safetensors file; the path is for messages.

    Raises:
        ValueError: a damaged file.
    """
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise ValueError(f"{path} is not a complete safetensors file ({error}): copy or write it again") from error


MAX_REASON_LENGTH = 600
"""Longest excerpt of torch's list of mismatches, in characters."""


def load_state(model: nn.Module, path: Path, state: dict[str, Any]) -> nn.Module:
    """Load named values into a model and return it in eval mode; the path is for messages.

    Raises:
        ValueError: weights of another architecture.
    """
    own = model.state_dict()
    for name, value in state.items():
        if name in own and not isinstance(own[name], Tensor):
            state[name] = _decode_extra_state(path, name, value) if isinstance(value, Tensor) else value
        elif name in own and own[name].is_floating_point() and not value.is_floating_point():
            raise ValueError(
                f"{path}: {name} holds {str(value.dtype).removeprefix('torch.')} where the model has "
                f"{str(own[name].dtype).removeprefix('torch.')}: save the weights as floating-point numbers"
            )
    try:
        model.load_state_dict(state)
    except Exception as error:  # a damaged file may hold any kind of tensor
        reason = str(error)
        reason = reason if len(reason) <= MAX_REASON_LENGTH else f"{reason[:MAX_REASON_LENGTH]}…"
        raise ValueError(
            f"{path} does not hold weights of this {type(model).__name__}: name the model that they belong to. {reason}"
        ) from error
    return model.eval()


def _decode_extra_state(path: Path, name: str, value: Tensor) -> Any:
    try:
        return torch.load(io.BytesIO(value.numpy().tobytes()), weights_only=True)
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise ValueError(f"{path}: {name} is not the extra state of this model: write the file again") from error
