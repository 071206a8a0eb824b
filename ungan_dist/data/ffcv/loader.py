"""A wrapper around FFCV's Loader that is compiled once and can read any batches.

FFCV takes indices from an order and cuts them into batches of one size. The order here is a sequence of batches of any
sizes, and can be cut only between them.
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
"""Interval in seconds at which a wait for a batch checks that the reading thread is alive."""


class _Batches(Sequence[Any]):
    """Batches with the interface of one long sequence of indices."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self._batches = batches
        # float32 buffers then begin at multiples of 64 bytes, as torch's tensors do, because last bits may depend on it
        self.batch_size = -(-max(map(len, batches), default=1) // 16) * 16

    def __len__(self) -> int:
        return len(self._batches) * self.batch_size

    def __getitem__(self, wanted: Any) -> Any:
        begin, end, _ = wanted.indices(len(self))
        if (begin, end) == (0, len(self)) and len(self._batches) != 1:
            return self
        assert end - begin == self.batch_size
        return self._batches[begin // self.batch_size] if wanted.start is not None else self


class _ReplaceableOrder(TraversalOrder):
    """Order with replaceable batches. FFCV calls it to get an order, so it returns itself."""

    def __init__(self) -> None:
        self.batches = _Batches([])

    def __call__(self, loader: Loader) -> _ReplaceableOrder:
        return self

    def sample_order(self, epoch: int) -> _Batches:
        return self.batches


class _BufferCache:
    """Cache of the last finished pass's buffers, because each page of new buffers would fault again.

    It replaces a Loader's graph, of which a pass only uses ``allocate_memory``.
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
        self._order = _ReplaceableOrder()
        if threading_layer() == "workqueue":
            num_threads = 1  # its threads serve one pass at a time, and a second pass would end the process
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
        self._memory = _BufferCache(self._loader.graph)

    @contextlib.contextmanager
    def read_batches(self, batches: Sequence[np.ndarray], *, num_buffers: int) -> Iterator[Iterator[Tensor]]:
        """Read batches of images, each of which is valid until the next is requested.

        Args:
            batches: indices of each batch; none may be empty.
            num_buffers: number of buffers: one in use, one being filled, the others filled ahead. A single buffer is
                enough for a single batch, which then keeps it. Several buffers are reused by the next pass.
        """
        self._order.batches = _Batches(batches)
        # a pass's thread reads its sizes as long as it lives, so each pass has a shallow copy of the loader, which
        # shares the compiled code
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
            _stop(iterator)
            if num_buffers > 1:
                self._memory.give_back(batch_size, num_buffers, iterator.memory_allocations)


def _stop(iterator: EpochIterator) -> None:
    """Stop the reading thread and wait for it. The queue is emptied, because the thread blocks if it is full."""
    iterator.iter_ixes = iter(())
    while iterator.is_alive():
        with contextlib.suppress(queue.Empty):
            iterator.output_queue.get_nowait()
        iterator.join(0.001)


def _results(iterator: EpochIterator, num_batches: int) -> Iterator[Tensor]:
    """Yield the iterator's batches. Raise an error if its thread has died, for which FFCV would wait forever."""
    for _ in range(num_batches):
        while True:
            try:
                # the reading thread sets torch's number of threads again at the start of a pass
                with keep_torch_threads():
                    _, (images,) = iterator.output_queue.get(timeout=ALIVE_S)
                break
            except queue.Empty:
                if not iterator.is_alive():
                    raise RuntimeError("FFCV's reading thread has died; its error stands above") from None
        yield images
