"""Real process groups: run a function in several processes connected over gloo."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any


def in_world(size: int, function: str, *arguments: Any) -> list[Any]:
    """Return the results of a function, ``module:name``, on each rank; it is called with a World and the arguments.

    Raises:
        RuntimeError: a process ended with a status other than 0.
    """
    import torch

    context = multiprocessing.get_context("forkserver")
    # imported once for all processes of all tests, because each import takes seconds
    context.set_forkserver_preload(["torch", "ungan_dist.runs.units", "world_methods"])
    with tempfile.TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_rank, args=(rank, size, folder, function, arguments)) for rank in range(size)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        if any(codes):
            raise RuntimeError(f"the processes of {function} ended with {codes}")
        return [torch.load(Path(folder, str(rank)), weights_only=False) for rank in range(size)]


def _rank(rank: int, size: int, folder: str, function: str, arguments: tuple[Any, ...]) -> None:

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    import torch
    from torch import distributed

    from ungan_dist.training.world import World

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=size)
    module, name = function.split(":")
    result = getattr(importlib.import_module(module), name)(World(rank=rank, size=size), *arguments)
    torch.save(result, Path(folder, str(rank)))
    distributed.barrier()
    distributed.destroy_process_group()


def run_together(world: Any, units: list[Any]) -> list[str]:
    """Execute units as in any world."""
    from ungan_dist.runs.units import execute_together

    return [outcome.kind for outcome in execute_together(units, world)]


def steps_of(world: Any, units: list[Any]) -> int:
    """Execute units and return the number of optimizer steps; in a world of one, as a worker of the pool."""
    from ungan_dist.runs.units import execute
    from ungan_dist.training import train

    take_step, steps = train.take_step, 0

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        return take_step(*arguments, **named)

    train.take_step = counted
    kinds = run_together(world, units) if world.size > 1 else [execute(unit).kind for unit in units]
    assert set(kinds) == {"done"}, kinds
    return steps


def run_together_until_killed(world: Any, units: list[Any], num_steps: int) -> None:
    """Kill the last rank after a number of optimizer steps."""
    import signal

    from ungan_dist.training import train

    take_step, steps = train.take_step, 0

    def mortal(*arguments: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > num_steps and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(*arguments, **named)

    train.take_step = mortal
    run_together(world, units)
