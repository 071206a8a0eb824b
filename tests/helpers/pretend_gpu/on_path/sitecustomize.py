"""Python imports this module at its start: switch the pretend GPU on as soon as torch and Triton are imported."""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class _AfterImport(importlib.abc.MetaPathFinder):
    """Calls a function once a module has been imported."""

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self._name, self._function = name, function

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def then(module: ModuleType) -> None:
                execute(module)
                self._function()

            spec.loader.exec_module = then
        return spec


def _pretend_cuda() -> None:
    from pretend_gpu import cuda

    cuda.install()


def _emulate_tensor_cores() -> None:
    import tensor_cores

    tensor_cores.emulated().__enter__()


sys.meta_path[:0] = [
    _AfterImport("torch", _pretend_cuda),
    _AfterImport("triton.runtime.interpreter", _emulate_tensor_cores),
]
