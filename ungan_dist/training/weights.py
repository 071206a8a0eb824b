"""Weights as files: safetensors, ours and the user's, or a user's plain tensors read with ``weights_only``."""

from __future__ import annotations

import hashlib
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
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: name the file of weights that lies in it")
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
    return _with_state(model, path, content, _safetensors if _is_safetensors(path, content) else _checkpoint)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_safetensors(path: Path, content: bytes) -> bool:
    """By its name, or by a beginning that no checkpoint has: eight bytes of length, then JSON."""
    return path.suffix.lower() == ".safetensors" or content[8:9] == b"{"


def _safetensors(path: Path, content: bytes) -> Any:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # a damaged file fails anywhere in the reader
        raise ValueError(f"{path} is no whole safetensors file ({error}): copy or write it again") from error


def _checkpoint(path: Path, content: bytes) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles: whether it can be read is all that counts
            state: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails anywhere in the reader
        # in our words: torch's own advise to load the file without this protection
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = f"holds {named[1]}, which is no tensor" if named else "is no checkpoint of plain tensors, or is damaged"
        raise ValueError(
            f"{path} {held}: nothing in it was run; save model.state_dict() with safetensors.torch.save_file"
        ) from error
    wrapped = [name for name in WRAPPERS if isinstance(state, dict) and isinstance(state.get(name), dict)]
    if len(wrapped) > 1:
        raise ValueError(
            f"{path} holds weights under {' and '.join(wrapped)}: save the one that is meant, with "
            f"safetensors.torch.save_file"
        )
    return state[wrapped[0]] if wrapped else state


WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Names under which training scripts keep a state dict beside other things."""
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and DDP, and torch.compile, put before every name of the model that they wrap."""
LONGEST = 600
"""Characters of torch's list of what does not fit."""


def _with_state(model: nn.Module, path: Path, content: bytes, read: Any) -> nn.Module:
    own = model.state_dict()
    state = _unwrapped(_tensors(path, read(path, content)), own)
    for name, value in state.items():
        if name in own and own[name].is_floating_point() and not value.is_floating_point():
            raise ValueError(
                f"{path}: {name} holds {str(value.dtype).removeprefix('torch.')} where the model has "
                f"{str(own[name].dtype).removeprefix('torch.')}: save the weights as floating-point numbers"
            )
    try:
        model.load_state_dict(state)
    except Exception as error:  # tensors of a damaged file may be of any kind
        reason = str(error)
        reason = reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}…"
        raise ValueError(
            f"{path} does not hold weights of this {type(model).__name__}: name the model that they are of. {reason}"
        ) from error
    return model.eval()


def _tensors(path: Path, state: Any) -> dict[str, Tensor]:
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, no weights by their names: save model.state_dict()")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path} holds {type(value).__name__} under {name!r}, not a tensor under a name: save "
                f"model.state_dict() alone"
            )
    return dict(state)


def _unwrapped(state: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes of wrappers that the model itself does not have."""
    for prefix in PREFIXES * 2:  # one wrapper in the other, in either order
        if state and all(name.startswith(prefix) for name in state) and not any(n.startswith(prefix) for n in own):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
