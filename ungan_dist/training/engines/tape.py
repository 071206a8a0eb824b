"""Record a step as a list of tensor operations, refuse what a CUDA graph could not capture, and replay it.

A replay has the contract of a CUDA graph: the same operations on the same memory, nothing read by the host and nothing
new from it. On a CPU it stands for the graph. On a GPU the record only checks the step before its capture.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_READS = "it reads a tensor's value on the host, as .item(), float(), bool() and an if on a tensor do"
_SHAPES = "the size of a result depends on values, as with a boolean index, nonzero or unique"
_CREATES = "it makes a tensor from values of the host, as torch.tensor and torch.from_numpy do"
_REFUSED = {
    **dict.fromkeys(("_local_scalar_dense", "equal", "is_nonzero", "allclose"), _READS),
    **dict.fromkeys(("nonzero", "masked_select", "unique_dim", "_unique", "_unique2", "unique_consecutive"), _SHAPES),
    **dict.fromkeys(("bincount", "repeat_interleave", "argwhere", "nonzero_numpy"), _SHAPES),
    **dict.fromkeys(("lift", "lift_fresh", "lift_fresh_copy"), _CREATES),
}
"""Operations, without their namespace, and why they are refused."""
_UNWRITTEN = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
"""Operations whose results hold nothing yet; a replay leaves them out."""


_Call = tuple[Callable[..., Any], Sequence[Any], dict[str, Any], list[Tensor]]
"""An operation, its arguments and its results."""


class CaptureRefused(ValueError):
    """A step cannot be captured."""


class Tape(TorchDispatchMode):
    """Record the operations of the ``with`` block while they run."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[_Call] = []
        self._left_out: list[_Call] = []
        self._origins: dict[int, str] = {}
        self._signature: list[str] = []
        self._guard = _HostReads()

    def __enter__(self) -> Tape:
        self._guard.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._guard.__exit__(kind, error, trace)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        space, _, name = func._schema.name.partition("::")
        if space == "profiler":
            return func(*args, **kwargs)
        _check(name, func, args, kwargs)
        # aliases, which hold no autograd graph
        arguments, named = tree_map(_alias, (tuple(args), kwargs))
        given = [self._describe(leaf) for leaf in tree_leaves((arguments, named))]
        result = func(*args, **kwargs)
        outputs = [_alias(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        _check_devices(name, [*tree_leaves((arguments, named)), *outputs])
        for output in outputs:
            self._origins.setdefault(_storage_of(output), f"made by {len(self._signature)}")
        self._signature.append(f"{func}({', '.join(given)})")
        # what a view or an empty tensor lies in must live on, so that its memory does not become another tensor's
        calls = self._left_out if func.is_view or name in _UNWRITTEN else self._calls
        calls.append((func, arguments, named, outputs))
        return result

    @property
    def signature(self) -> list[str]:
        """One line for each operation: its name, the origin and layout of its tensors, and its other arguments."""
        return self._signature

    def check_equals(self, other: Tape) -> None:
        """Compare with the record of another step on the same memory.

        Raises:
            CaptureRefused: The steps differ, so that a replay would not repeat the step.
        """
        for mine, theirs in zip(self._signature, other._signature, strict=False):
            if mine != theirs:
                raise CaptureRefused(
                    f"the training step cannot be captured: it is not the same each time. One step had {mine}, and "
                    f"the next had {theirs}"
                )
        if len(self._signature) != len(other._signature):
            raise CaptureRefused(
                f"the training step cannot be captured: it had {len(self._signature)} operations, and then "
                f"{len(other._signature)}"
            )

    @torch.no_grad()
    def replay(self) -> None:
        """Run the operations again on the same memory."""
        for func, args, kwargs, outputs in self._calls:
            results = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
            for output, result in zip(outputs, results, strict=True):
                if output.data_ptr() != result.data_ptr():
                    output.copy_(result)

    def _describe(self, leaf: Any) -> str:
        if not isinstance(leaf, Tensor):
            return repr(leaf)
        storage = _storage_of(leaf)
        origin = self._origins.setdefault(storage, f"at {storage:x}")
        layout = f"{tuple(leaf.shape)} {leaf.stride()} +{leaf.storage_offset()}"
        return f"{leaf.dtype} {leaf.device} {layout} {origin}"


class _HostReads(TorchFunctionMode):
    """Refuse the reads that run below torch's operations."""

    _READING = (Tensor.tolist, Tensor.numpy, Tensor.__array__)

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in self._READING:
            raise CaptureRefused(_words(_READS, func.__name__))
        return func(*args, **(kwargs or {}))


def _check(name: str, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    reason = _REFUSED.get(name, "")
    if name == "repeat_interleave" and kwargs.get("output_size") is not None:
        reason = ""
    if name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
        isinstance(leaf, Tensor) and leaf.dtype in (torch.bool, torch.uint8) for leaf in tree_leaves(args[1])
    ):
        reason = _SHAPES
    if any(isinstance(leaf, torch.Generator) for leaf in tree_leaves((args, kwargs))):
        reason = "it draws from a generator of its own"
    if reason:
        raise CaptureRefused(_words(reason, str(func)))


def _check_devices(name: str, leaves: Sequence[Any]) -> None:
    """Refuse a transfer; a number on the CPU is a constant of the step."""
    devices = {leaf.device for leaf in leaves if isinstance(leaf, Tensor) and (leaf.ndim or leaf.device.type != "cpu")}
    if len(devices) > 1:
        between = " and ".join(sorted(map(str, devices)))
        raise CaptureRefused(_words(f"it copies between {between}", name))


def _words(reason: str, operation: str) -> str:
    return f"the training step cannot be captured: {reason} ({operation}{_place()})"


def _place() -> str:
    """Name the line of the innermost code that is neither a library's nor ours."""
    frame = sys._getframe()  # pyright: ignore[reportPrivateUsage]
    known = (str(Path(torch.__file__).parents[1]), str(Path(__file__).parents[2]), "<")
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(known):
            return f", {Path(name).name} line {frame.f_lineno}"
        frame = frame.f_back
    return ""


def _alias(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]
