"""The process group that ``torchrun`` starts: NCCL with one process per GPU, else gloo on CPUs."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator

import torch
from torch import distributed

from ungan_dist.training.world import World

TIMEOUT = datetime.timedelta(hours=2)
"""Longest wait for rank 0, which prepares the data and evaluates the models; a dead process ends the others at once."""


@contextlib.contextmanager
def process_group() -> Iterator[World]:
    """Join the processes that torchrun started, and yield their world; without torchrun, a world of one process.

    If a machine has fewer GPUs than processes, all processes use its CPUs over gloo.
    """
    # job schedulers set WORLD_SIZE too
    if "WORLD_SIZE" not in os.environ or "LOCAL_RANK" not in os.environ:
        yield World()
        return
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpus = torch.cuda.device_count() >= local_size
    device = torch.device("cuda", local_rank) if on_gpus else torch.device("cpu")
    if on_gpus:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpus else "gloo", timeout=TIMEOUT)
    yield World(rank=distributed.get_rank(), size=distributed.get_world_size(), device=device)
    # skipped after an error: others may wait in the middle of a step, and torchrun ends them with this process
    distributed.destroy_process_group()


def exit_process(world: World) -> None:
    """Exit at once with success, if this is one of several processes.

    torch 2.14 keeps gloo's threads after ``destroy_process_group``. One that is still running at interpreter shutdown
    aborts the process (once in twenty on a busy machine), and torchrun would report finished work as failed.
    """
    if world.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
