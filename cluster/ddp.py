"""Units under Ray Train: one trainer's processes compute them in turn, every batch shared by all of them."""

from __future__ import annotations

import errno
import shutil
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from ungan_dist.cluster.connection import places
from ungan_dist.cluster.fleet import Fleet
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import content_hash
from ungan_dist.errors import ConfigError
from ungan_dist.runs.progress import Event, ProgressCallback, silent
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.units import Done, Failed, RunUnits, Unit, execute_together, is_done, root_of
from ungan_dist.training.torchrun import PATIENCE
from ungan_dist.training.world import World

MAX_FAILURES = 3
"""How often a trainer's processes are started anew, from the last epoch's end, before a unit is given up."""
CONTROLLER_FAILURES = 5
LOOK_SECONDS = 0.5
"""How often the driver looks for results that were committed meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """The processes of a trainer, and what each of them holds."""

    num_workers: int
    cpus_per_worker: float = 1.0
    gpus_per_worker: int = 0
    """1, and NCCL connects them; or 0, and gloo does."""
    may_grow: bool = False
    """The cluster grows on demand, so what it has now says nothing."""


def refuse_infeasible(workers: Workers, nodes: list[dict[str, Any]]) -> None:
    """Refuses more than a cluster has: Ray Train itself would wait for it without end.

    Args:
        workers: what is asked.
        nodes: as ``ray.nodes()`` lists them.

    Raises:
        ConfigError: with what there is and what is asked.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, gpus = (sum(resources.get(kind, 0.0) for resources in alive) for kind in ("CPU", "GPU"))
    room = sum(places(resources, workers.cpus_per_worker, workers.gpus_per_worker) for resources in alive)
    if workers.num_workers > room and not workers.may_grow:
        raise ConfigError(
            f"train.num_workers {workers.num_workers} with {workers.cpus_per_worker:g} CPUs and "
            f"{workers.gpus_per_worker:g} GPUs each does not fit: the cluster's {len(alive)} nodes have {cpus:g} CPUs "
            f"and {gpus:g} GPUs, room for {room}. Lower --train.num-workers or --fleet.cpus-per-worker, or add nodes; "
            f"a run goes on with fewer workers where it was"
        )


def run_together(
    units: Sequence[Unit], workers: Workers, *, on_progress: ProgressCallback = silent
) -> Iterator[Done | Failed]:
    """Computes units one after the other and yields what became of each; the contract is that of ``RunUnits``.

    A worker that dies costs the epoch that it was in. A unit whose workers fail too often is given up, and a new
    trainer takes up those after it.

    Raises:
        ConfigError: the cluster has not what is asked; nothing was started.
    """
    refuse_infeasible(workers, ray.nodes())
    remaining = list(units)
    total = len(remaining)
    while remaining:
        note = f"{len(remaining)} units, {workers.num_workers} processes together"
        on_progress(
            Event(stage="trainer", done=total - len(remaining), total=total, seconds=0, seconds_left=None, note=note)
        )
        attempt = _Attempt(_trainer(remaining, workers))
        while attempt.is_running(LOOK_SECONDS):
            for unit in [unit for unit in remaining if is_done(unit)]:
                remaining.remove(unit)
                yield Done(unit=unit)
        failed = {id: Failed(unit=None, error=error, kind=kind) for id, error, kind in attempt.failures}
        if attempt.error is not None:
            first = next((unit for unit in remaining if not is_done(unit)), None)
            if first is not None:
                failed[first.id] = Failed(unit=first, error=_words(attempt.error), kind=_kind(attempt.error))
        for unit in list(remaining):
            if is_done(unit):
                remaining.remove(unit)
                yield Done(unit=unit)
            elif unit.id in failed:
                remaining.remove(unit)
                yield Failed(unit=unit, error=failed[unit.id].error, kind=failed[unit.id].kind)
        assert attempt.error is not None or not remaining, "a trainer ended without a word on a unit"
    if units:
        shutil.rmtree(_storage(units[0]), ignore_errors=True)


def beside(fleet: Fleet, config: AuditConfig, on_progress: ProgressCallback) -> RunUnits:
    """Targets by the processes of a trainer, shadow models by a fleet, in turns: each needs the cluster's room.

    With ``shadows.data_parallel`` the trainer's processes train these too, and the fleet nothing.

    Raises:
        ConfigError: the cluster has not what is asked; nothing was computed.
    """
    workers = Workers(
        num_workers=config.train.num_workers,
        cpus_per_worker=config.fleet.cpus_per_worker,
        gpus_per_worker=int(fleet.room.device == "cuda"),
        may_grow=config.fleet.autoscaling,
    )
    refuse_infeasible(workers, ray.nodes())

    def run_units(units: Sequence[Unit]) -> Iterator[Done | Failed]:
        apart = [unit for unit in units if isinstance(unit, ShadowUnit) and not config.shadows.data_parallel]
        together = [unit for unit in units if unit not in apart]
        if together:
            fleet.dismiss()
            yield from run_together(together, workers, on_progress=on_progress)
        if apart:
            yield from fleet.run_units(apart)

    return run_units


def _storage(unit: Unit) -> Path:
    """Where Ray Train keeps its own books; the state of a training lies with its unit, whoever trains."""
    folder = root_of(unit) / "shadows" if isinstance(unit, ShadowUnit) else root_of(unit)
    return folder.resolve() / "trainer"


def _name(units: Sequence[Unit]) -> str:
    return f"units-{content_hash([unit.id for unit in units])[:32]}"


def _trainer(units: Sequence[Unit], workers: Workers) -> TorchTrainer:
    resources = {"CPU": workers.cpus_per_worker}
    if workers.gpus_per_worker:
        resources["GPU"] = workers.gpus_per_worker
    return TorchTrainer(
        train_together,
        train_loop_config={"units": list(units)},
        torch_config=TorchConfig(
            backend="nccl" if workers.gpus_per_worker else "gloo", timeout_s=int(PATIENCE.total_seconds())
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers.num_workers,
            use_gpu=workers.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=ray.train.RunConfig(
            name=_name(units),
            storage_path=str(_storage(units[0])),
            failure_config=ray.train.FailureConfig(
                max_failures=MAX_FAILURES,
                controller_failure_limit=CONTROLLER_FAILURES,
            ),
        ),
    )


def train_together(config: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What every process of a trainer does.

    Returns:
        Id, error and kind of each unit that failed after its training.
    """
    context = ray.train.get_context()
    units: list[Unit] = config["units"]
    # a name that was used before resumes whatever was run under it: Ray compares no configs
    if context.get_experiment_name() != _name(units):
        raise ConfigError(f"the trainer {context.get_experiment_name()!r} was handed the units of {_name(units)!r}")
    world = World(rank=context.get_world_rank(), size=context.get_world_size(), device=get_device())
    failures: list[tuple[str, str, str]] = []
    for outcome in execute_together(units, world):
        if outcome.kind != "done":
            failures.append((outcome.unit.id, outcome.error, outcome.kind))
        ray.train.report({"unit": outcome.unit.title, "outcome": outcome.kind})
    return failures


@dataclass
class _Attempt:
    """A trainer at work in a thread of its own, so that results are seen as they come.

    In the main thread it would also put its own handler in place of Ctrl-C's, which exits with 0.
    """

    trainer: TorchTrainer
    failures: list[tuple[str, str, Any]] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._thread.start()

    def is_running(self, seconds: float) -> bool:
        """Whether it is still at work after so many seconds."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def _fit(self) -> None:
        try:
            self.failures = self.trainer.fit().return_value or []
        except Exception as error:  # handed to the driver's thread, which says which target it belongs to
            self.error = error


def _words(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


def _kind(error: Exception) -> Any:
    """What ended a trainer, where one of its workers says so."""
    raised = list(getattr(error, "worker_failures", {}).values())
    causes = [*raised, *(getattr(one, "cause", None) or one.__cause__ for one in raised)]
    full = any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in causes)
    return "storage_full" if full else "error"
