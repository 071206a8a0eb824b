"""The world that ``torchrun`` makes: one process a GPU, or gloo between processes on CPUs."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator

import torch
from torch import distributed

from ungan_dist.training.world import World

PATIENCE = datetime.timedelta(hours=2)
"""What processes wait for rank 0, which prepares the data and asks the models; one that dies ends them at once."""


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """This process's place among those that torchrun started; a world of one where it did not.

    NCCL connects GPUs. Where a machine has fewer of them than processes, all run on its CPUs over gloo.
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
    distributed.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE)
    yield World(rank=distributed.get_rank(), size=distributed.get_world_size(), device=device)
    # not after an error: other processes may wait in the middle of a step, and torchrun ends them with this one
    distributed.destroy_process_group()


def leave(world: World) -> None:
    """Ends a process of several at once, with success, when all of its work is done.

    torch 2.14 keeps gloo's threads beyond ``destroy_process_group``; one that still runs when the interpreter is taken
    down aborts the process, one time in twenty on a busy machine, and torchrun would call finished work a failure.
    """
    if world.size > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
