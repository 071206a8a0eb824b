"""Weights as files: safetensors, or a user's checkpoint of plain tensors, read with ``weights_only``."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from ungan_dist.files import hash_bytes


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
    return _load_state(model, path, path.read_bytes(), _safetensors)


@dataclass(frozen=True, kw_only=True)
class GivenWeights:
    """A user-supplied file of weights, with its content when the run was planned."""

    path: str
    """Absolute path of a safetensors file, or of a ``torch.save`` checkpoint with a state dict of plain tensors."""
    sha256: str


def locate_weights(path: str | Path) -> GivenWeights:
    """Return the absolute path and the hash of a file of weights.

    Raises:
        ValueError: no such file.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: name the file of weights in it")
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist: name a file of weights")
    return GivenWeights(path=str(Path(path).resolve()), sha256=hash_bytes(Path(path).read_bytes()))


def load_given_weights(model: nn.Module, weights: GivenWeights) -> nn.Module:
    """Load user-supplied weights into a model and return it in eval mode.

    Args:
        model: a model of the same architecture; modified.

    Raises:
        ValueError: a missing, changed or damaged file, weights of another architecture, or a pickle that would run
            code.
    """
    path = Path(weights.path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist here: every worker needs the given weights at the same path")
    content = path.read_bytes()
    if hash_bytes(content) != weights.sha256:
        raise ValueError(f"{path} has changed since the run began: restore it, or run again")
    return _load_state(model, path, content, _safetensors if _is_safetensors(path, content) else _checkpoint)


def _is_safetensors(path: Path, content: bytes) -> bool:
    """Detect by suffix, or by the header: eight bytes of length, then JSON, which no checkpoint starts with."""
    return path.suffix.lower() == ".safetensors" or content[8:9] == b"{"


def _safetensors(path: Path, content: bytes) -> Any:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise ValueError(f"{path} is not a complete safetensors file ({error}): copy or write it again") from error


def _checkpoint(path: Path, content: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickles
            state: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails anywhere in the reader
        # not torch's own message, which advises to load the file without this protection
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = (
            f"holds {named[1]}, which is not a tensor" if named else "is damaged, or not a checkpoint of plain tensors"
        )
        raise ValueError(
            f"{path} {held}: none of its code was run; save model.state_dict() with safetensors.torch.save_file"
        ) from error
    wrapped = [name for name in WRAPPERS if isinstance(state, dict) and isinstance(state.get(name), dict)]
    if len(wrapped) > 1:
        raise ValueError(
            f"{path} holds weights under {' and '.join(wrapped)}: save the intended one with "
            f"safetensors.torch.save_file"
        )
    return state[wrapped[0]] if wrapped else state


WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts store the state dict in a larger checkpoint."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DataParallel, DDP and torch.compile add to every name."""
MAX_REASON_LENGTH = 600
"""Longest excerpt of torch's list of mismatches, in characters."""


def _load_state(model: nn.Module, path: Path, content: bytes, read: Any) -> nn.Module:
    own = model.state_dict()
    state = _remove_prefixes(_tensors(path, read(path, content)), own)
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


def _tensors(path: Path, state: Any) -> dict[str, Any]:
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, not named weights: save model.state_dict()")
    for name, value in state.items():
        if isinstance(name, str) and name.endswith("_extra_state"):
            continue
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path} holds {type(value).__name__} under {name!r}, not a tensor under a name: save "
                f"model.state_dict() alone"
            )
    return dict(state)


def _remove_prefixes(state: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Remove the prefixes of wrappers that the model itself does not have."""
    for prefix in PREFIXES * 2:  # wrappers may be nested in either order
        if state and all(name.startswith(prefix) for name in state) and not any(n.startswith(prefix) for n in own):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
