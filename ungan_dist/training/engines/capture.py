"""Capture training steps once for each shape of their inputs, and replay them: no host wait, no launch of its own.

On a GPU a replay is a CUDA graph, on a CPU a tape (see ``tape``). The first steps of each shape run as usual. They are
real steps, and they show whether every step is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from ungan_dist.training.engines.tape import Tape

NUM_WATCHED = 3
"""Steps of each shape before its capture: the first makes the optimizer's state, and the next two must be equal."""


class CapturedSteps:
    """The captured steps of one training, by name and by shape of their inputs.

    A step is a function of tensors that returns a tensor. It reads and changes other tensors only in place, such as a
    model's weights and an optimizer's state. Every number in it is a constant, so a changing one must be a tensor.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._programs: dict[Hashable, _Program] = {}
        self._rates: dict[tuple[torch.optim.Optimizer, int], Tensor] = {}
        self._pool: Any = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def prepare(self, optimizer: torch.optim.Optimizer) -> None:
        """Keep learning rates in tensors, whose values a captured step reads, and update all weights in one operation.

        Call it before each pass: a method or a checkpoint may have put a number in a tensor's place.
        """
        for index, group in enumerate(optimizer.param_groups):
            # torch's fused kernels read it in float32 on a GPU
            dtype = torch.float32 if self._device.type == "cuda" else torch.float64
            new = torch.zeros((), dtype=dtype, device=self._device)
            rate = self._rates.setdefault((optimizer, index), new)
            if group["lr"] is not rate:
                rate.fill_(float(group["lr"]))
                group["lr"] = rate
            group.update(fused=True, foreach=False)
            if "capturable" in group:
                group["capturable"] = self._device.type == "cuda"

    def take(self, name: Hashable, step: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """Take one step.

        Args:
            name: Tells steps apart; it holds the objects that the step works on, such as its model and optimizer.
            step: The step. Only the first function of each name is used.
            inputs: The step's arguments.

        Returns:
            The step's result, valid until the next step.

        Raises:
            CaptureRefused: The step cannot be captured.
        """
        key = (name, *((value.shape, value.dtype, value.stride()) for value in inputs))
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = _Program(step, inputs, self._device, self._pool)
        return program.run(inputs)

    @property
    def num_captured(self) -> int:
        """Number of steps that are replayed."""
        return sum(program.is_captured for program in self._programs.values())


class _Program:
    """One step with inputs of one shape."""

    def __init__(
        self,
        step: Callable[..., Tensor],
        inputs: tuple[Tensor, ...],
        device: torch.device,
        pool: Any,
    ) -> None:
        self._step, self._device, self._pool = step, device, pool
        self._inputs = [value.detach().clone() for value in inputs]
        self._tapes: list[Tape] = []
        self._replay: Callable[[], object] | None = None
        self._output: Tensor | None = None

    @property
    def is_captured(self) -> bool:
        return self._replay is not None

    def run(self, inputs: tuple[Tensor, ...]) -> Tensor:
        for own, value in zip(self._inputs, inputs, strict=True):
            own.copy_(value)
        if self._replay is not None and self._output is not None:
            self._replay()
            return self._output
        output = self._watch()
        if len(self._tapes) == NUM_WATCHED:
            *_, before, last = self._tapes
            before.check_equals(last)
            self._tapes.clear()
            if self._device.type == "cuda":
                self._capture_graph()
            else:
                self._replay, self._output = last.replay, output
        return output

    def _watch(self) -> Tensor:
        tape = Tape()
        self._tapes.append(tape)
        if self._device.type != "cuda":
            with tape:
                return self._step(*self._inputs).detach()
        # libraries prepare themselves for a capture on a stream of its own
        stream, current = torch.cuda.Stream(self._device), torch.cuda.current_stream(self._device)
        stream.wait_stream(current)
        with torch.cuda.stream(stream), tape:
            output = self._step(*self._inputs).detach()
        current.wait_stream(stream)
        return output

    def _capture_graph(self) -> None:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._output = self._step(*self._inputs).detach()
        self._replay = graph.replay
