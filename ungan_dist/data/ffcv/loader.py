"""FFCV's Loader, kept alive: what it reads next is changed under it, and it is compiled once.

FFCV asks its order for indices and cuts them into batches of one size. The order here is a sequence of batches of any
sizes that lets itself be cut only at their ends.
"""

from __future__ import annotations

import contextlib
import copy
import queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ffcv.loader import Loader
from ffcv.loader.epoch_iterator import EpochIterator
from ffcv.pipeline.operation import Operation
from ffcv.transforms import ToTensor
from ffcv.traversal_order.base import TraversalOrder
from numba import config, threading_layer
from torch import Tensor

from ungan_dist.data.ffcv.availability import keep_torch_threads

ALIVE_S = 5.0
"""How often a wait for a batch looks whether the thread that prepares it still lives."""


class _Batches(Sequence[Any]):
    """Batches in the disguise of one long sequence of indices."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = batches
        # buffers of float32 then begin at multiples of 64 bytes, as torch's own tensors do: last bits may depend on it
        self.batch_size = -(-max(map(len, batches), default=1) // 16) * 16

    def __len__(self) -> int:
        return len(self._batches) * self.batch_size

    def __getitem__(self, wanted: Any) -> Any:
        begin, end, _ = wanted.indices(len(self))
        if (begin, end) == (0, len(self)) and len(self._batches) != 1:
            return self
        assert end - begin == self.batch_size
        return self._batches[begin // self.batch_size] if wanted.start is not None else self


class _LivingOrder(TraversalOrder):
    """An order that can be given new batches; FFCV takes an instance where calling it returns an order."""

    def __init__(self) -> None:
        self.batches = _Batches([])

    def __call__(self, loader: Loader) -> _LivingOrder:
        return self

    def sample_order(self, epoch: int) -> _Batches:
        return self.batches


class _KeptMemory:
    """The buffers of the last pass that has ended, in place of new ones, whose every page would fault anew.

    It stands where a Loader has its graph, of which a pass asks nothing else.
    """

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._kept: dict[tuple[int, int], Any] = {}

    def allocate_memory(self, batch_size: int, num_buffers: int) -> Any:
        kept = self._kept.pop((batch_size, num_buffers), None)
        return self._graph.allocate_memory(batch_size, num_buffers) if kept is None else kept

    def give_back(self, batch_size: int, num_buffers: int, memory: Any) -> None:
        self._kept = {(batch_size, num_buffers): memory}


class ReusableLoader:
    """One compiled pipeline over the field ``image`` of a file."""

    def __init__(self, path: Path, operation: Operation, *, num_threads: int) -> None:
        self._order = _LivingOrder()
        if threading_layer() == "workqueue":
            num_threads = 1  # its threads serve one pass at a time: a second one ends the process
        with keep_torch_threads():
            self._loader = Loader(
                str(path),
                batch_size=1,
                num_workers=min(num_threads, config.NUMBA_NUM_THREADS),
                os_cache=True,
                order=self._order,
                drop_last=False,
                pipelines={"image": [operation, ToTensor()], "label": None},
            )
        self._memory = _KeptMemory(self._loader.graph)

    @contextlib.contextmanager
    def reading(self, batches: Sequence[np.ndarray], *, num_buffers: int) -> Iterator[Iterator[Tensor]]:
        """Batches of examples' numbers to batches of pictures, each valid until the next is asked for.

        Args:
            batches: none of them empty.
            num_buffers: that are allocated: one being used, one being filled, the others filled ahead. A single one
                suffices for a single batch, which then keeps it; several are taken for the next pass.
        """
        self._order.batches = _Batches(batches)
        # sizes belong to a pass, and its thread looks at them as long as it lives: so each pass has a shallow copy,
        # which shares all that is compiled
        loader = copy.copy(self._loader)
        loader.first_traversal_order = self._order.batches
        batch_size = loader.batch_size = self._order.batches.batch_size
        loader.batches_ahead, loader.graph = num_buffers - 2, self._memory
        with keep_torch_threads():
            iterator = iter(loader)
        try:
            yield _results(iterator, len(batches))
        finally:
            iterator.close()
            _end(iterator)
            if num_buffers > 1:
                self._memory.give_back(batch_size, num_buffers, iterator.memory_allocations)


def _end(iterator: EpochIterator) -> None:
    """Lets the thread read no further and waits for it; it may itself wait for ever to end a queue that is full."""
    iterator.iter_ixes = iter(())
    while iterator.is_alive():
        with contextlib.suppress(queue.Empty):
            iterator.output_queue.get_nowait()
        iterator.join(0.001)


def _results(iterator: EpochIterator, num_batches: int) -> Iterator[Tensor]:
    """What the iterator yields, but an error where its thread has died, at which FFCV would wait for ever."""
    for _ in range(num_batches):
        while True:
            try:
                # at a pass's start the thread sets torch's number of threads once more
                with keep_torch_threads():
                    _, (images,) = iterator.output_queue.get(timeout=ALIVE_S)
                break
            except queue.Empty:
                if not iterator.is_alive():
                    raise RuntimeError("FFCV's reading thread has died; its error stands above") from None
        yield images
