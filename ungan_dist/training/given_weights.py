"""Weights in a user's file: find the state dict in what a training script stored, and the prefix of its wrapper.

A file may hold several sets of weights, such as raw and averaged ones. Then the user chooses.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ungan_dist.config.data import GivenConfig
from ungan_dist.config.run_model import find_run_model
from ungan_dist.files import hash_bytes
from ungan_dist.training.weights import load_state, read_safetensors

MAX_DEPTH = 3
"""Depth of nested dicts in which weights are looked for."""
MAX_NAMED = 3
"""Names that a note lists."""
WRAPPER_SEGMENTS = ("_orig_mod", "module")
"""Parts of names that torch.compile, DataParallel and DDP add, at any place."""
SHARED_PREFIXES = ("model.", "net.")
"""Prefixes under which trainers keep the model, such as Lightning's modules."""


@dataclass(frozen=True, kw_only=True)
class GivenWeights:
    """A user-supplied file of weights, with its content when the run was planned."""

    path: str
    """Absolute path of a safetensors file, or of a ``torch.save`` checkpoint of plain tensors."""
    sha256: str
    """Hash of the file, by which a change during a run is noticed."""
    key: str | None = None
    """Which weights of the file are meant: the key of their dict, or the prefix of their names."""
    identity: str = ""
    """Hash of the weights' names, types, shapes and values, the same in every file format."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The weights of a file that belong to a model."""

    state: dict[str, Any]
    """The model's own names → values."""
    note: str
    """What was read and what was left out, for the report; empty for a plain state dict."""


@dataclass(frozen=True)
class _Fit:
    """One set of weights in a file."""

    label: str
    """What ``--original-key`` names it by."""
    state: dict[str, Any]
    left_out: list[str] = field(default_factory=list)


def locate_weights(path: str | Path, key: str | None = None) -> GivenWeights:
    """Describe a file of weights: its absolute path, its hash, and the identity of its weights.

    Args:
        path: The file.
        key: Which weights of the file are meant; by default the only ones.

    Raises:
        ValueError: No such file.
    """
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: name the file of weights in it")
    if not Path(path).is_file():
        raise ValueError(f"{path} does not exist: name a file of weights")
    content = Path(path).read_bytes()
    return GivenWeights(
        path=str(Path(path).resolve()),
        sha256=hash_bytes(content),
        key=key,
        identity=_identify(Path(path), content, key),
    )


def locate_given_weights(given: GivenConfig) -> dict[str, GivenWeights]:
    """Return the given files of weights: ``original``, ``unlearned`` and ``retrained``, as far as there are any.

    Models of an earlier run are no file: see ``runs.sequence``.

    Raises:
        ValueError: A file does not exist.
    """
    return {
        name: locate_weights(path, getattr(given, f"{name}_key"))
        for name in ("original", "unlearned", "retrained")
        if (path := getattr(given, name)) is not None and find_run_model(path) is None
    }


def load_given_weights(model: nn.Module, weights: GivenWeights) -> nn.Module:
    """Load user-supplied weights into a model and return it in eval mode.

    Args:
        model: A model of the same architecture; modified.
        weights: The file.

    Raises:
        ValueError: A missing, changed or damaged file, weights of another architecture, several sets of weights that
            fit, or a pickle that would run code.
    """
    return load_state(model, Path(weights.path), select_weights(model, weights).state)


def select_weights(model: nn.Module, weights: GivenWeights) -> Selection:
    """Find the weights of a model in a file.

    Raises:
        ValueError: As for ``load_given_weights``.
    """
    path = Path(weights.path)
    if not path.is_file():
        raise ValueError(f"{path} does not exist here: every worker needs the given weights at the same path")
    content = path.read_bytes()
    if hash_bytes(content) != weights.sha256:
        raise ValueError(f"{path} has changed since the run began: restore it, or run again")
    held = _read(path, content)
    dicts = _find_dicts(path, held)
    own = list(model.state_dict())
    fits = [fit for where, state in dicts.items() for fit in _find_fits(where, state, own)]
    if weights.key is not None:
        fits = _choose(path, fits, dicts, weights.key)
    elif len(fits) > 1 and all(_are_equal(fits[0].state, fit.state) for fit in fits):
        fits = fits[:1]
    if len(fits) > 1:
        raise ValueError(
            f"{path} holds weights of this model under {_join(fit.label for fit in fits)}: choose one by its name, "
            f"as in --original-key {fits[0].label} (or --unlearned-key). Averaged weights (EMA) differ from raw ones"
        )
    if not fits:  # let torch name what differs
        closest = max(dicts.values(), key=lambda state: len(_strip_wrappers(state).keys() & set(own)))
        return Selection(state=_strip_wrappers(closest, own), note="")
    unnamed = list(_find_unnamed(held))
    if unnamed and weights.key is None:
        raise ValueError(
            f"{path} holds weights under {fits[0].label or 'its names'}, and others without names under "
            f"{_join(unnamed)}, as of an average (EMA): to take the first, add --original-key "
            f"{fits[0].label or '.'} (or --unlearned-key); to take the others, load them into the model and save its "
            f"state_dict()"
        )
    return Selection(state=fits[0].state, note=_describe(path, fits[0]))


def _identify(path: Path, content: bytes, key: str | None) -> str:
    """Hash the weights as a plain safetensors file; the bytes themselves where it is unclear which are meant."""
    try:
        dicts = _find_dicts(path, _read(path, content))
    except ValueError:
        return hash_bytes(content)
    if key is not None:
        dicts = {where: state for where, state in dicts.items() if where in (key, "") or key.startswith(f"{where}.")}
    if len(dicts) != 1:
        return hash_bytes(content) if key is None else hash_bytes(content + key.encode())
    ((where, state),) = dicts.items()
    state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if key not in (None, where, "."):
        prefix = f"{str(key).removeprefix(f'{where}.')}."
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    state = _strip_shared_prefix(_strip_wrappers(state))
    plain = {name: value.contiguous().clone() for name, value in state.items() if name != "n_averaged"}
    return hash_bytes(safetensors.torch.save(plain))


def _read(path: Path, content: bytes) -> Any:
    """Read what a file holds, as plain containers of tensors."""
    part = re.search(r"-(\d+)-of-(\d+)\.|\.index\.json$", path.name)
    if part and part[2] != "00001":
        raise ValueError(
            f"{path} is one of several files of a checkpoint: load the model, and save model.state_dict() in one file "
            f"with safetensors.torch.save_file"
        )
    # a safetensors file begins with eight bytes of length, then JSON, which no checkpoint does
    if path.suffix.lower() == ".safetensors" or content[8:9] == b"{":
        return read_safetensors(path, content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about unusual pickles
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails anywhere in the reader
        # not torch's own message, which advises to load the file without this protection
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        held = (
            f"holds {named[1]}, which is not a tensor" if named else "is damaged, or not a checkpoint of plain tensors"
        )
        raise ValueError(
            f"{path} {held}: none of its code was run; save model.state_dict() with safetensors.torch.save_file"
        ) from error


def _find_dicts(path: Path, held: Any) -> dict[str, dict[str, Any]]:
    """Find every dict of named weights, by its place in the file; the file itself has the place ``""``.

    Raises:
        ValueError: There is none.
    """
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds a {type(held).__name__}, not named weights: save model.state_dict()")
    found = dict(_walk(held, "", 0))
    if not found:
        name, value = next(iter(held.items()), ("", None))
        if not isinstance(name, str) or not isinstance(value, Tensor):
            what = f"{type(value).__name__} under {name!r}, not a tensor under a name" if held else "nothing"
            raise ValueError(f"{path} holds {what}: save model.state_dict() alone")
        found[""] = held
    odd = {
        where: next((name for name, value in state.items() if not _may_stand_beside_weights(name, value)), None)
        for where, state in found.items()
    }
    plain = {where: state for where, state in found.items() if odd[where] is None}
    if not plain:
        where, name = next(iter(odd.items()))
        raise ValueError(
            f"{path} holds {type(found[where][name]).__name__} under {name!r}, not a tensor under a name: save "
            f"model.state_dict() alone"
        )
    return plain


def _walk(held: dict[Any, Any], where: str, depth: int) -> Iterator[tuple[str, dict[Any, Any]]]:
    if any(isinstance(value, Tensor) and value.ndim for value in held.values()):
        yield where, held
    if depth == MAX_DEPTH or not all(isinstance(name, str) for name in held):
        return
    for name, value in held.items():
        if isinstance(value, dict) and all(isinstance(inner, str) for inner in value):
            yield from _walk(value, f"{where}.{name}" if where else name, depth + 1)


def _find_unnamed(held: Any, where: str = "") -> Iterator[str]:
    """Yield the places of lists of tensors, in which averages of weights are stored without names."""
    if isinstance(held, dict):
        for name, value in held.items():
            if isinstance(name, str):
                yield from _find_unnamed(value, f"{where}.{name}" if where else name)
    elif isinstance(held, list | tuple) and any(isinstance(value, Tensor) and value.ndim for value in held):
        yield where


def _may_stand_beside_weights(name: Any, value: Any) -> bool:
    if not isinstance(name, str):
        return False
    is_number = isinstance(value, Tensor | int | float) or value is None
    return is_number or isinstance(value, dict | list | tuple) or name.endswith("_extra_state")


def _find_fits(where: str, state: dict[str, Any], own: list[str]) -> list[_Fit]:
    """Find every prefix under which a dict has all of a model's names."""
    stripped = _strip_wrappers(state, own)
    anchor = next((name for name in own if _is_needed(name)), None)
    if anchor is None:
        return []
    prefixes = [name.removesuffix(anchor) for name in stripped if name == anchor or name.endswith(f".{anchor}")]
    # a numbered part is a layer of a larger model, not a wrapper
    prefixes = [prefix for prefix in prefixes if not any(part.isdecimal() for part in prefix.split("."))]
    fits: list[_Fit] = []
    for prefix in prefixes:
        if not all(f"{prefix}{name}" in stripped for name in own if _is_needed(name)):
            continue
        inner = {name.removeprefix(prefix): value for name, value in stripped.items() if name.startswith(prefix)}
        left_out = [name for name in stripped if not name.startswith(prefix)]
        # what is neither a weight of the model nor a counter of a wrapper makes torch refuse the file
        counters = [name for name, value in inner.items() if name not in own and not _has_values(value)]
        inner = {name: value for name, value in inner.items() if name not in counters}
        label = ".".join(part for part in (where, prefix.rstrip(".")) if part)
        fits.append(_Fit(label, inner, [*(f"{prefix}{name}" for name in counters), *left_out]))
    return fits


def _is_needed(name: str) -> bool:
    # absent from files of old versions of torch; from a model's own get_extra_state
    return not name.endswith(("num_batches_tracked", "_extra_state"))


def _has_values(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _strip_wrappers(state: dict[str, Any], own: Iterable[str] = ()) -> dict[str, Any]:
    """Remove wrappers' parts from every name, unless the model has them itself or names would clash."""
    kept = {part for name in own for part in name.split(".")}
    parts = [part for part in WRAPPER_SEGMENTS if part not in kept]
    renamed = {".".join(part for part in name.split(".") if part not in parts): value for name, value in state.items()}
    return renamed if len(renamed) == len(state) else state


def _strip_shared_prefix(state: dict[str, Any]) -> dict[str, Any]:
    """Remove a trainer's prefix from the names if all of them have it."""
    for prefix in SHARED_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _choose(path: Path, fits: list[_Fit], dicts: dict[str, dict[str, Any]], key: str) -> list[_Fit]:
    wanted = "" if key == "." else key
    chosen = [fit for fit in fits if fit.label == wanted]
    chosen = chosen or [fit for fit in fits if wanted and fit.label.startswith(f"{wanted}.")]
    if not chosen:
        known = [fit.label or "." for fit in fits] or list(dicts)
        raise ValueError(f"{path} has no weights of this model under {key!r}; it has: {_join(known)}")
    return chosen


def _are_equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name]
        for name, value in one.items()
    )


def _describe(path: Path, fit: _Fit) -> str:
    if not fit.label and not fit.left_out:
        return ""
    rest = f" Left out: {_join(fit.left_out)}." if fit.left_out else ""
    return f"The weights of {path.name} were read {f'from {fit.label}' if fit.label else 'by their names'}.{rest}"


def _join(names: Iterable[str]) -> str:
    listed = [name or "." for name in names]
    if len(listed) > MAX_NAMED:
        return f"{', '.join(listed[:MAX_NAMED])} and {len(listed) - MAX_NAMED} more"
    return " and ".join(filter(None, [", ".join(listed[:-1]), listed[-1]]))
