"""Data-parallel training with one definition for any number of processes.

Every process draws the same global batches and computes its share of each. A loss is written as this process's part of
the global mean, so parts and gradients add up to those of one process. A world of one communicates nothing.

Torch's DDP is not used. It averages over processes with equal weights, and it ignores the critic, whose weights are
used functionally.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed

from ungan_dist.data.rows import Rows

Batch = TypeVar("Batch", Tensor, Rows)


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank, size and device; defaults to a single process. Uses torch's default process group."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank must lie in [0, {self.size}), the size of the world; got {self.rank}")

    def row_slice(self, num_rows: int) -> slice:
        """Return this process's rows of a global batch, in order of rank and as evenly as possible.

        A share has at least two rows or none, because a batch norm in training mode needs two. With small batches the
        last ranks have none.
        """
        sharing = max(1, min(self.size, num_rows // 2))
        if self.rank >= sharing:
            return slice(num_rows, num_rows)
        each, larger = divmod(num_rows, sharing)
        start = self.rank * each + min(self.rank, larger)
        return slice(start, start + each + (self.rank < larger))

    def share(self, batch: Batch) -> Batch:
        """Return this process's rows of a global batch: of a tensor, or of drawn ``Rows``."""
        return batch if self.size == 1 else batch[self.row_slice(len(batch))]

    def partial_loss(self, loss: Callable[[], Tensor], share: int, num_rows: int, *outputs: Tensor) -> Tensor:
        """Return this process's part of a mean over a global batch; all parts add up to the mean.

        Args:
            loss: computes the mean over this process's rows; not called without rows.
            share: number of this process's rows.
            num_rows: number of rows in the global batch.
            outputs: inputs of the loss. The part of an empty share is 0 but keeps their graph, because the backward
                pass of a shared batch norm must reach every process.
        """
        if self.size == 1:
            return loss()
        return loss() * (share / num_rows) if share else sum((output.sum() for output in outputs), torch.zeros(()))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes; the same bits on each, and differentiable."""
        return values if self.size == 1 else _Sum.apply(values)

    def gather(self, rows: Shaped[Tensor, " share *columns"], num_rows: int) -> Shaped[Tensor, " {num_rows} *columns"]:
        """Concatenate the shares of a global batch on every process; differentiable.

        Implemented as a sum of zero-padded buffers, because shares may be uneven or empty, unlike in an all-gather.
        """
        if self.size == 1:
            return rows
        own = self.row_slice(num_rows)
        before, after = (rows.new_zeros((missing, *rows.shape[1:])) for missing in (own.start, num_rows - own.stop))
        return self.sum(torch.cat([before, rows, after]))

    def reduce(
        self, parameters: Iterable[Tensor], *, share: int, num_rows: int, statistics: Iterable[Tensor] = ()
    ) -> None:
        """Sum gradients over all processes, in place and in one message.

        A parameter that no process's loss depends on stays without gradient, as in a single process.

        Args:
            parameters: parameters of modules, or functionally used weights.
            share: number of this process's rows.
            num_rows: number of rows in the global batch.
            statistics: running statistics of each process's rows; replaced by their mean, weighted by rows.
        """
        if self.size == 1:
            return
        parameters, statistics = list(parameters), list(statistics)
        if not parameters and not statistics:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        weighted = [value * (share / num_rows) for value in statistics]
        like = [*gradients, *weighted][0]
        is_used = like.new_tensor([float(p.grad is not None) for p in parameters])
        *sums, is_used = self._sum_flat([*gradients, *weighted, is_used])
        for parameter, gradient, count in zip(parameters, sums, is_used, strict=False):
            # check the own gradient first: reading the count would synchronise the GPU at every step
            has_gradient = parameter.grad is not None or float(count)
            # in the parameter's order of memory, in which a fused optimizer reads it
            parameter.grad = torch.empty_like(parameter).copy_(gradient) if has_gradient else None
        for value, mean in zip(statistics, sums[len(parameters) :], strict=True):
            value.copy_(mean)

    def _sum_flat(self, tensors: list[Tensor]) -> list[Tensor]:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        ends = itertools.accumulate(tensor.numel() for tensor in tensors)
        return [
            flat[end - tensor.numel() : end].view(tensor.shape).to(tensor.dtype)
            for tensor, end in zip(tensors, ends, strict=True)
        ]

    def broadcast(self, value: Any) -> Any:
        """Return rank 0's value on every process; for plain values and bytes."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    def are_replicas_equal(self, tensors: Iterable[Tensor]) -> bool:
        """Whether tensors have the same bits on every process; NaN equals NaN."""
        if self.size == 1:
            return True
        differing = torch.zeros((), device=self.device)
        for tensor in tensors:
            first = tensor.detach().clone()
            distributed.broadcast(first, src=0)
            both_nan = first.isnan() & tensor.isnan()  # a diverged model has diverged on every process
            differing += ((first != tensor) & ~both_nan).any()
        return float(self.sum(differing)) == 0

    def synchronize(self) -> None:
        """Wait for the device to finish its work and for every process to arrive."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.size > 1:
            distributed.barrier()


SINGLE_PROCESS = World()
"""A world of one process on the CPU."""


class _Sum(torch.autograd.Function):
    """The sum over all processes; it is its own adjoint, so derivatives of every order are correct."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return _Sum.apply(*grad_outputs)
