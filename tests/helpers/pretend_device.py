"""A second device without a GPU: real numbers on the CPU behind tensors that say they are elsewhere.

Mixing devices raises as on CUDA. Operations, and every point at which the host waits for the device, are counted. Torch
has no spare device that a wrapper may claim, so the tensors claim ``meta``; in ``pretend_gpu``, they claim ``cuda``.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

DEVICE = "meta"
WAITS = {
    *("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero", "aten::masked_select"),
    *("aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::repeat_interleave.Tensor"),
}
"""Operations after which the host knows a value of the device."""
SCALARS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
ACROSS = {"aten::_to_copy", "aten::copy_", "aten::lift_fresh"}
"""Operations that may have tensors of both devices."""
HOST_INDEX = {"aten::index", "aten::index_put_", "aten::_index_put_impl_", "aten::index_put"}
"""Operations that copy an index of the host to the device, and wait for it."""

PINNING = {"aten::is_pinned", "aten::pin_memory", "aten::_pin_memory"}
"""Operations on page-locked memory, which the second device has not."""


_GENERATOR = torch.Generator
_SET_DATA = Tensor.data.__set__  # pyright: ignore[reportAttributeAccessIssue]


class Counts:
    """Operations by name, and waits by the place in our code that waited."""

    def __init__(self, device: str = DEVICE) -> None:
        self.device = torch.device(device)
        self.operations: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.record: Callable[[Any, Any, Any], Any] | None = None
        """Carries out each operation on the CPU's tensors while a CUDA graph is captured."""

    def wait(self, reason: str) -> None:
        if self.record is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {reason}")
        frames = (frame for frame in reversed(traceback.extract_stack()) if "ungan_dist/" in frame.filename)
        place = next((f"{frame.filename.rpartition('ungan_dist/')[2]}, {frame.name}" for frame in frames), "elsewhere")
        self.waits[f"{place}: {reason}"] += 1


class PretendTensor(Tensor):
    """A tensor of the second device."""

    inner: Tensor
    counts: Counts

    @staticmethod
    def __new__(cls, inner: Tensor, counts: Counts) -> PretendTensor:
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=counts.device, requires_grad=False,
        )  # fmt: skip
        made.inner, made.counts = inner, counts
        return made

    def __init__(self, inner: Tensor, counts: Counts) -> None:
        pass

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"PretendTensor({self.inner})"

    def tolist(self) -> Any:
        self.counts.wait("tolist")
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:  # a module takes another memory format by it
        assert isinstance(value, PretendTensor)
        _SET_DATA(self, value)
        self.inner = value.inner

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _tensors((args, kwargs or {}))
        return _dispatch(next(one.counts for one in given if isinstance(one, PretendTensor)), func, args, kwargs or {})


class PretendDevice(TorchDispatchMode):
    """Inside it, ``device="meta"`` or another name is the second device."""

    def __init__(self, device: str = DEVICE) -> None:
        super().__init__()
        self.counts = Counts(device)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(self.counts, func, args, kwargs or {})


class _AnyGenerator(type(torch.Generator)):
    """A type checker that first sees an annotation inside the block keeps this class: it must take torch's own too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _GENERATOR)


class HostGenerator(torch.Generator, metaclass=_AnyGenerator):
    """A generator on the second device draws on the CPU: no dispatch sees its construction."""

    def __new__(cls, device: Any = "cpu") -> HostGenerator:
        return super().__new__(cls, "cpu")


@contextlib.contextmanager
def pretend_device() -> Iterator[Counts]:
    """Use the second device inside the block, and count what happens on it."""
    optimizers = sys.modules[torch.optim.Optimizer.__module__]
    # captured steps ask for fused optimizers, whatever the device
    fusing = mock.patch.object(optimizers, "_get_fused_kernels_supported_devices", return_value=["cpu", DEVICE])
    with fusing, mock.patch.object(torch, "Generator", HostGenerator), PretendDevice() as mode:
        yield mode.counts


def _dispatch(counts: Counts, func: Any, args: Any, kwargs: Any) -> Any:
    name = func._schema.name
    tensors = list(_tensors((args, kwargs)))
    is_there = [isinstance(one, PretendTensor) for one in tensors]
    asked = kwargs.get("device")
    goes_there = any(is_there) if asked is None else torch.device(asked).type == counts.device.type
    if name in PINNING:
        return False if name == "aten::is_pinned" else tensors[0].clone()
    if not any(is_there) and not goes_there:
        return func(*args, **kwargs)
    _check(counts, func, name, tensors, is_there, kwargs, goes_there=goes_there)
    counts.operations[name] += not func.is_view
    inner = {"device": torch.device("cpu")} if asked is not None else {}
    if "pin_memory" in kwargs:
        inner["pin_memory"] = False
    out = (counts.record or _run)(func, _unwrap(args), _unwrap(kwargs) | inner)
    if name in SCALARS or not goes_there:
        return out
    return return_and_correct_aliasing(func, args, kwargs, _wrap(out, counts))


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


def _check(
    counts: Counts, func: Any, name: str, tensors: list[Tensor], is_there: list[bool], kwargs: Any, *, goes_there: bool
) -> None:
    """Raise for tensors of both devices, and count a wait."""
    if name == "aten::copy_" and is_there[0] != is_there[1]:
        if not is_there[0] or not kwargs.get("non_blocking"):
            counts.wait("copy_")
    elif name == "aten::_to_copy" and is_there[0] != goes_there:
        # a copy to the host is waited for, since its value is wanted
        if is_there[0] or not kwargs.get("non_blocking"):
            counts.wait("copy to the device" if goes_there else "copy to the host")
    elif name not in ACROSS and any(is_there):
        for one, there in zip(tensors, is_there, strict=True):
            if there or not one.dim():
                continue  # CUDA takes numbers of the host
            if name not in HOST_INDEX or one is tensors[0]:
                raise RuntimeError(f"{func} mixes devices: {[(list(t.shape), t.device.type) for t in tensors]}")
            counts.wait("index on the host")
    masks = [one for one in tensors[1:] if one.dtype in (torch.bool, torch.uint8)] if name in HOST_INDEX else []
    if any(is_there) and (name in WAITS or masks):
        counts.wait("boolean index" if masks else name)


# arguments of operations nest tuples, lists and dicts only; torch's own walk takes most of a small test's time


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _tensors(one)


def _unwrap(value: Any) -> Any:
    if isinstance(value, PretendTensor):
        return value.inner
    if isinstance(value, dict):
        return {name: _unwrap(one) for name, one in value.items()}
    return type(value)(map(_unwrap, value)) if type(value) in (tuple, list) else value


def _wrap(value: Any, counts: Counts) -> Any:
    if type(value) is Tensor:
        return PretendTensor(value, counts)
    return type(value)(_wrap(one, counts) for one in value) if type(value) in (tuple, list) else value
