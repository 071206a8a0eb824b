"""The parts of ``torch.cuda`` that the pretend runtime lacks: tensors that compute on the CPU, and CUDA graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pretend_device
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves


def install() -> None:
    """Let this process compute on the pretend GPU until its end."""
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(…, device="cuda") copies through the dispatcher
    # a converted parameter is a new tensor, not the old one with other memory
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    torch.backends.cudnn.enabled = False
    torch.Generator = pretend_device.HostGenerator  # pyright: ignore[reportAttributeAccessIssue]
    mode = pretend_device.PretendDevice("cuda:0")
    mode.__enter__()
    cuda: Any = torch.cuda
    cuda.CUDAGraph = Graph
    cuda.graph = lambda graph, **_: graph.capture(mode.counts)
    cuda.is_current_stream_capturing = lambda: mode.counts.record is not None


class Graph:
    """A CUDA graph: the operations of a block, which are not carried out before a replay."""

    def __init__(self, **_: Any) -> None:
        self._calls: list[tuple[Callable[..., Any], Any, Any, list[Tensor]]] = []
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    @contextlib.contextmanager
    def capture(self, counts: pretend_device.Counts) -> Any:
        """Record the operations of the block, and undo at its end what they have written."""
        counts.record = self._record
        try:
            yield
        finally:
            counts.record = None
            for storage, content in self._before.values():
                storage.copy_(content)

    def _record(self, func: Any, args: Any, kwargs: Any) -> Any:
        given = [*args, *(kwargs.get(argument.name) for argument in func._schema.arguments[len(args) :])]
        for argument, value in zip(func._schema.arguments, given, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in tree_leaves(value):
                    if isinstance(tensor, Tensor):
                        storage = tensor.untyped_storage()
                        self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        result = func(*args, **kwargs)
        if not func.is_view:
            outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
            self._calls.append((func, args, kwargs, outputs))
        return result

    def replay(self) -> None:
        """Carry the operations out on the same memory."""
        with torch.no_grad(), _disable_current_modes():
            for func, args, kwargs, outputs in self._calls:
                results = [leaf for leaf in tree_leaves(func(*args, **kwargs)) if isinstance(leaf, Tensor)]
                for output, result in zip(outputs, results, strict=True):
                    if output.data_ptr() != result.data_ptr():
                        output.copy_(result)
