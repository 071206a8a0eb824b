"""Count launches, operations and bytes of the fused operations in Triton's interpreter, without a GPU.

``TRITON_INTERPRET=1 python benchmarks/kernel_counts.py`` prints them. ``benchmarks/kernels.py`` makes rows of them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock

from kernel_steps import (
    Step,
    augment_step,
    critic_step,
    critic_update,
    energy_step,
    generator_step,
    log_odds_step,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from triton.runtime.interpreter import GridExecutor

from ungan_dist.kernels.impl import Impl
from ungan_dist.kernels.self_check.guards import CANARY, guarded_buffers


class Count(TorchDispatchMode):
    """Counts operations that are not views, and the bytes that they write. On a GPU nearly each is a launch."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.num_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            self.num_bytes += sum(bytes_of(tensor) for tensor in tensors_of(result))
        return result


def tensors_of(result: object) -> Iterable[Tensor]:
    """Iterate over the tensors of an operation's result."""
    found = result if isinstance(result, (tuple, list)) else (result,)
    return (tensor for tensor in found if isinstance(tensor, Tensor))


def bytes_of(tensor: Tensor) -> int:
    """Return the size of a dense tensor."""
    return math.prod(tensor.shape) * tensor.element_size()


def count_reference(step: Step) -> dict[str, int]:
    """Count operations and the bytes that they write. In eager mode, each result is a buffer of its own."""
    with Count() as count:
        step()
    return {"reference_operations": count.operations, "reference_bytes": count.num_bytes}


def count_fused(step: Step) -> dict[str, int]:
    """Count launched kernels, other operations, and the bytes of all buffers and results."""
    launches = 0
    launch = GridExecutor.__call__

    def counted(self: GridExecutor, *args: Any, **kwargs: Any) -> Any:
        nonlocal launches
        launches += 1
        return launch(self, *args, **kwargs)

    with mock.patch.object(GridExecutor, "__call__", counted), guarded_buffers() as buffers, Count() as count:
        step()
    made = sum((len(buffer) - 2 * CANARY) * buffer.element_size() for buffer in buffers)
    return {"fused_kernels": launches, "fused_calls": count.operations, "fused_bytes": made}


SUBJECTS: dict[str, Callable[[Impl], Step]] = {
    "critic step, widths 128, batch 256": lambda impl: critic_step(impl, 128, 256, "cpu"),
    "critic update with SGD, widths 128, batch 256": lambda impl: critic_update(impl, 128, 256, "cpu"),
    "generator step, widths 128, batch 256": lambda impl: generator_step(impl, 128, 256, "cpu"),
    "energy distance and gradients, 256 × 256 × 64": lambda impl: energy_step(impl, 256, 64, "cpu"),
    "augmented batch, 64 × 32 × 32 × 3": lambda impl: augment_step(impl, 64, "cpu"),
    "log-odds, 8 × 256 × 10": lambda impl: log_odds_step(impl, 8, 256, 10, "cpu"),
}


def count(subject: Callable[[Impl], Step]) -> dict[str, int]:
    """Count both implementations of one subject."""
    return {**count_reference(subject("reference")), **count_fused(subject("fused"))}


def main() -> None:
    """Print the counts of every subject as JSON."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    json.dump([{"subject": name, **count(subject)} for name, subject in SUBJECTS.items()], sys.stdout)


if __name__ == "__main__":
    main()
