"""One process among several: all that a method knows of its surroundings.

Data-parallel training by one definition for any number of processes. Every process draws the same global batches and
computes its share of each; a loss is written as its part of the global mean, so that parts, and with them gradients,
add up to what one process would compute. A world of one communicates nothing and changes no bit.

Torch's own DDP wrapper is not used: it averages what passes through a module's forward, weighs every process alike
and does not see the critic, whose weights are used functionally.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, distributed


@dataclass(frozen=True, kw_only=True)
class World:
    """Rank, size and device; a single process unless told otherwise. The process group is torch's default one."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank must lie in [0, {self.size}), the size of the world; got {self.rank}")

    def rows(self, num_rows: int) -> slice:
        """Which rows of a global batch are this process's, in order of rank and as evenly as possible.

        A share has two rows at least, or none: a batch norm in training mode cannot take one. So small batches leave
        the last ranks without any.
        """
        sharing = max(1, min(self.size, num_rows // 2))
        if self.rank >= sharing:
            return slice(num_rows, num_rows)
        each, larger = divmod(num_rows, sharing)
        start = self.rank * each + min(self.rank, larger)
        return slice(start, start + each + (self.rank < larger))

    def share(self, batch: Shaped[Tensor, " rows *columns"]) -> Shaped[Tensor, " share *columns"]:
        """This process's rows of a global batch."""
        return batch if self.size == 1 else batch[self.rows(len(batch))]

    def part(self, loss: Callable[[], Tensor], share: int, num_rows: int, *outputs: Tensor) -> Tensor:
        """This process's part of a mean over a global batch: the parts of all processes add up to it.

        Args:
            loss: the mean over this process's rows; not called where there are none.
            share: how many rows those are.
            num_rows: rows of the global batch.
            outputs: what the loss is computed from. Where a share is empty its part is 0, but still hangs on them:
                the backward pass of a shared batch norm must reach every process.
        """
        if self.size == 1:
            return loss()
        return loss() * (share / num_rows) if share else sum((output.sum() for output in outputs), torch.zeros(()))

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, the same bits on each; differentiable."""
        return values if self.size == 1 else _Sum.apply(values)

    def gather(self, rows: Shaped[Tensor, " share *columns"], num_rows: int) -> Shaped[Tensor, " {num_rows} *columns"]:
        """The shares of a global batch put together again on every process; differentiable.

        A sum over buffers that are zero outside a share: shares may be uneven or empty, which an all-gather of tensors
        cannot take.
        """
        if self.size == 1:
            return rows
        own = self.rows(num_rows)
        before, after = (rows.new_zeros((missing, *rows.shape[1:])) for missing in (own.start, num_rows - own.stop))
        return self.sum(torch.cat([before, rows, after]))

    def reduce(
        self, parameters: Iterable[Tensor], *, share: int, num_rows: int, statistics: Iterable[Tensor] = ()
    ) -> None:
        """Sums the gradients of the parts over all processes, in place and in one message.

        Args:
            parameters: whose gradients; functionally used weights just as a module's.
            statistics: running statistics of each process's own rows; become their mean, weighted by rows.

        A parameter that took part in no process's loss stays without gradient, as it does in one process's.
        """
        if self.size == 1:
            return
        parameters, statistics = list(parameters), list(statistics)
        if not parameters and not statistics:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        weighted = [value * (share / num_rows) for value in statistics]
        like = [*gradients, *weighted][0]
        took_part = like.new_tensor([float(p.grad is not None) for p in parameters])
        *sums, took_part = self._sum_flat([*gradients, *weighted, took_part])
        for parameter, gradient, count in zip(parameters, sums, took_part, strict=False):
            # its own gradient says that it took part: reading the count would make a GPU wait at every step
            parameter.grad = gradient if parameter.grad is not None or float(count) else None
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

    def tell_all(self, value: Any) -> Any:
        """What rank 0 says, on every process: plain values and bytes."""
        if self.size == 1:
            return value
        told = [value]
        distributed.broadcast_object_list(told, src=0, device=self.device)
        return told[0]

    def agrees(self, tensors: Iterable[Tensor]) -> bool:
        """Whether tensors have the same bits on every process: replicas that drift apart are a fault."""
        if self.size == 1:
            return True
        differing = torch.zeros((), device=self.device)
        for tensor in tensors:
            first = tensor.detach().clone()
            distributed.broadcast(first, src=0)
            both_nan = first.isnan() & tensor.isnan()  # a model that has diverged has done so everywhere
            differing += ((first != tensor) & ~both_nan).any()
        return float(self.sum(differing)) == 0

    def synchronize(self) -> None:
        """Waits until the device has done all that was asked of it, and until every process has come here."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.size > 1:
            distributed.barrier()


ALONE = World()
"""A single process; only its device may be another's."""


class _Sum(torch.autograd.Function):
    """The sum over all processes. It is its own adjoint, so that derivatives of every order are right."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return _Sum.apply(*grad_outputs)
