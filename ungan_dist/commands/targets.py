"""``ungan-dist targets``: train the originals and run every method, by several processes under torchrun."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING

from ungan_dist.commands.options import recipe_config
from ungan_dist.errors import ConfigError, Unfinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ungan_dist.config.audit import AuditConfig
    from ungan_dist.runs.units import Failed, Unit
    from ungan_dist.training.world import World

USAGE = """\
usage: ungan-dist targets RECIPE [OPTIONS]
       torchrun --nproc-per-node N -m ungan_dist targets RECIPE [OPTIONS]

Trains the originals and runs every method; `ungan-dist run` then adds shadow models and the report. Under torchrun all
processes share every batch. A killed run continues from the last epoch, with the same number of processes or fewer.
--shadows.data-parallel trains the shadow models in the same way, one after another. Use it for models that are too
large or too slow for one process each.

options: targets RECIPE --help
"""


def main(arguments: list[str]) -> int:
    """Train the targets of a recipe, or continue."""
    config = recipe_config(arguments, command="targets")

    from ungan_dist.runs.status import RunState
    from ungan_dist.training.torchrun import exit_process, process_group

    with process_group() as world:
        if config.train.num_workers not in (1, world.size):
            raise ConfigError(
                f"train.num_workers is {config.train.num_workers}, but {world.size} process(es) were started: omit "
                f"it, or pass it to torchrun's --nproc-per-node"
            )
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_workers=world.size))
        failures = _lead(config, world) if world.rank == 0 else _follow(config, world)
        if world.rank == 0:
            for failure in failures:
                print(f"{failure.unit.title}: {failure.error}", file=sys.stderr)
    if failures:
        final = all(failure.is_final for failure in failures)
        return RunState.WITH_FAILURES.exit_code if final else Unfinished.exit_code
    exit_process(world)
    return 0


def _lead(config: AuditConfig, world: World) -> list[Failed]:
    """Lead as rank 0: read the data, open the run and choose the units, originals first."""
    from ungan_dist.runs.failures import write_failure
    from ungan_dist.runs.folder import open_run
    from ungan_dist.runs.units import is_done

    with open_run(config, device=world.device.type) as plan:
        failures = _compute_together(plan.originals, world)
        ready = {unit.seed for unit in plan.originals if is_done(unit)}
        failures += _compute_together([unit for unit in plan.unlearning if unit.seed in ready], world)
        if config.shadows.data_parallel:
            failures += _compute_together(plan.shadows, world)
        for failure in failures:
            write_failure(plan.folder, failure)
        print(f"targets: {plan.folder}")
    return failures


def _follow(config: AuditConfig, world: World) -> list[Failed]:
    """Compute the units of rank 0, in as many rounds."""
    rounds = 3 if config.shadows.data_parallel else 2
    return [failure for _ in range(rounds) for failure in _compute_together([], world)]


def _compute_together(units: Sequence[Unit], world: World) -> list[Failed]:
    """Compute the units that rank 0 chose."""
    from ungan_dist.runs.units import Failed, execute_together

    failures: list[Failed] = []
    for outcome in execute_together(world.broadcast(units), world):
        if isinstance(outcome, Failed):
            failures.append(outcome)
        if world.rank == 0:
            print(f"{'failed' if isinstance(outcome, Failed) else 'done'}: {outcome.unit.title}", flush=True)
    return failures
