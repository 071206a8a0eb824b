"""Train units data-parallel with Ray Train, one after the other, with all processes of one trainer."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
from pyarrow import fs
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from ungan_dist.cluster.fleet import Fleet
from ungan_dist.cluster.resources import count_workers
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import content_hash
from ungan_dist.errors import ConfigError
from ungan_dist.runs.forecast.probe import Probe, Timing, measure_together, prepare_unit
from ungan_dist.runs.progress import Event, ProgressCallback, silent
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.storage.workers import ArrivedFrom, ExecuteTogetherThere
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import (
    Done,
    Failed,
    FailureKind,
    RunUnits,
    Unit,
    Working,
    execute_together,
    failure_of,
    is_done,
    root_of,
)
from ungan_dist.training.torchrun import TIMEOUT
from ungan_dist.training.world import World

MAX_FAILURES = 3
"""Restarts of a trainer's processes, from the last completed epoch, before a unit is given up."""
CONTROLLER_FAILURES = 5
POLL_SECONDS = 0.5
"""Interval in which the driver looks for committed results."""
STORAGE_POLL_SECONDS = 5.0
"""The same in object storage, where a look is a request for each unit."""
MAX_ABSENT = 2
"""Absent results, such as those of units that fail, after which no more are looked for."""


@dataclass(frozen=True, kw_only=True)
class TrainerResources:
    """The processes of a trainer and their resources."""

    num_workers: int
    cpus_per_worker: float = 1.0
    gpus_per_worker: int = 0
    """1, connected by NCCL; or 0, connected by gloo."""
    autoscaling: bool = False
    """The cluster grows on demand, so its present size is not checked."""


def refuse_infeasible(resources: TrainerResources, nodes: list[dict[str, Any]]) -> None:
    """Refuse a trainer that does not fit: Ray Train would wait for ever.

    Args:
        resources: the requested processes.
        nodes: as returned by ``ray.nodes()``.

    Raises:
        ConfigError: it does not fit; the message lists the available resources.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cpus, gpus = (sum(node.get(kind, 0.0) for node in alive) for kind in ("CPU", "GPU"))
    room = sum(count_workers(node, resources.cpus_per_worker, resources.gpus_per_worker) for node in alive)
    if resources.num_workers > room and not resources.autoscaling:
        raise ConfigError(
            f"train.num_workers {resources.num_workers} with {resources.cpus_per_worker:g} CPUs and "
            f"{resources.gpus_per_worker:g} GPUs each does not fit: its {len(alive)} nodes have {cpus:g} CPUs "
            f"and {gpus:g} GPUs, room for {room}. Lower --train.num-workers or --fleet.cpus-per-worker, or add nodes. "
            f"A run continues with fewer workers"
        )


def run_with_trainer(
    units: Sequence[Unit],
    resources: TrainerResources,
    *,
    on_progress: ProgressCallback = silent,
    mirror: Mirror | None = None,
    cache: str | None = None,
) -> Iterator[Done | Failed]:
    """Train units one after the other and yield their outcomes; the contract is that of ``RunUnits``.

    The death of a worker costs the current epoch. If a unit fails too often it is given up, and a new trainer continues
    with the next one.

    Args:
        units: the units.
        resources: the processes.
        on_progress: called before each trainer.
        mirror: object storage by which the processes exchange files; defaults to the output folder, which all nodes
            share. A killed process then costs what was trained since the last state in the storage.
        cache: folder of the processes' copies; defaults to the user's cache folder.

    Raises:
        ConfigError: the trainer does not fit on the cluster; nothing was started.
    """
    refuse_infeasible(resources, ray.nodes())
    remaining = list(units)
    total = len(remaining)
    if mirror is None:
        look, poll_seconds = is_done, POLL_SECONDS
    else:
        look, poll_seconds = ArrivedFrom(mirror=mirror), STORAGE_POLL_SECONDS
    while remaining:
        note = f"{len(remaining)} units, {resources.num_workers} data-parallel processes"
        done = total - len(remaining)
        on_progress(Event(stage="trainer", done=done, total=total, seconds=0, seconds_left=None, note=note))
        attempt = _Attempt(_create_trainer(remaining, resources, mirror, cache))
        while attempt.is_running(poll_seconds):
            for unit in _find_done(remaining, look):
                remaining.remove(unit)
                yield Done(unit=unit)
        failed: dict[str, Any] = {id: rest for id, *rest in attempt.answer or []}
        if attempt.error is not None:
            first = next((unit for unit in remaining if not look(unit)), None)
            if first is not None:
                failed[first.id] = describe_error(attempt.error)
        for unit in list(remaining):
            if look(unit):
                remaining.remove(unit)
                yield Done(unit=unit)
            elif unit.id in failed:
                remaining.remove(unit)
                error, kind, traceback = failed[unit.id]
                yield Failed(unit=unit, error=error, kind=kind, traceback=traceback)
        assert attempt.error is not None or not remaining, "a trainer ended without an outcome for a unit"
    if units:
        _remove_trainer_folder(units[0], mirror)


def _find_done(units: Sequence[Unit], look: Callable[[Unit], bool]) -> list[Unit]:
    """Find units that are done; they are trained in order, and those after some absent ones are not looked for."""
    found: list[Unit] = []
    for number, unit in enumerate(units):
        if look(unit):
            found.append(unit)
        elif number - len(found) == MAX_ABSENT:
            break
    return found


def make_resources(fleet: Fleet, config: AuditConfig) -> TrainerResources:
    """Return the processes of a run's trainer."""
    return TrainerResources(
        num_workers=config.train.num_workers,
        cpus_per_worker=config.fleet.cpus_per_worker,
        gpus_per_worker=int(fleet.allocation.device == "cuda"),
        autoscaling=config.fleet.autoscaling,
    )


def time_with_trainer(probe: Probe, resources: TrainerResources) -> Timing:
    """Time one model that all processes of a trainer train.

    Raises:
        ConfigError: the trainer does not fit on the cluster; nothing was started.
        Exception: of Ray Train, if the processes end without an answer.
    """
    refuse_infeasible(resources, ray.nodes())
    with tempfile.TemporaryDirectory(prefix="ungan-dist-plan-") as folder:
        trainer = make_trainer(time_probe, {"probe": probe}, resources, name="plan", folder=folder)
        attempt = _Attempt(trainer)
        while attempt.is_running(POLL_SECONDS):
            pass
    if attempt.error is not None:
        raise attempt.error
    assert isinstance(attempt.answer, Timing)
    return attempt.answer


def time_probe(config: dict[str, Any]) -> Timing:
    """Time the probe in ``config``; every process of a trainer runs this function."""
    probe: Probe = config["probe"]
    with tempfile.TemporaryDirectory(prefix="ungan-dist-plan-") as folder:
        return measure_together(prepare_unit(probe, Path(folder)), probe.seconds, _find_world())


def _find_world() -> World:
    context = ray.train.get_context()
    return World(rank=context.get_world_rank(), size=context.get_world_size(), device=get_device())


def split_between_trainer_and_fleet(
    fleet: Fleet, config: AuditConfig, on_progress: ProgressCallback, mirror: Mirror | None = None
) -> RunUnits:
    """Return a function that trains targets data-parallel and shadow models on the fleet, in turns.

    With ``shadows.data_parallel`` the trainer trains the shadow models too.

    Raises:
        ConfigError: the trainer does not fit on the cluster; nothing was computed.
    """
    resources = make_resources(fleet, config)
    refuse_infeasible(resources, ray.nodes())

    def is_shared(unit: Unit) -> bool:
        return isinstance(unit, ShadowUnit) and config.shadows.data_parallel

    def run_units(units: Sequence[Unit]) -> Iterator[Done | Failed | Working]:
        for_fleet = [unit for unit in units if not (isinstance(unit, TargetUnit) or is_shared(unit))]
        for_trainer = [unit for unit in units if unit not in for_fleet]
        if for_trainer:
            fleet.release_workers()
            yield from run_with_trainer(
                for_trainer, resources, on_progress=on_progress, mirror=mirror, cache=config.execution.cache
            )
        if for_fleet:
            yield from fleet.run_units(for_fleet)

    return run_units


def _trainer_folder(unit: Unit) -> Path:
    """Return the folder of Ray Train's own files; checkpoints of a training are stored with its unit."""
    folder = root_of(unit) / "shadows" if isinstance(unit, ShadowUnit) else root_of(unit)
    return folder.resolve() / "trainer"


def _place_trainer(unit: Unit, mirror: Mirror) -> str:
    """Return the path of Ray Train's own files in object storage."""
    return "/".join((mirror.root, *_trainer_folder(unit).relative_to(mirror.folder.resolve()).parts))


def _remove_trainer_folder(unit: Unit, mirror: Mirror | None) -> None:
    if mirror is None:
        shutil.rmtree(_trainer_folder(unit), ignore_errors=True)
        return
    with contextlib.suppress(OSError):  # Ray Train's files are of no use, and do no harm
        mirror.filesystem.delete_dir(_place_trainer(unit, mirror))


def _trainer_name(units: Sequence[Unit]) -> str:
    return f"units-{content_hash([unit.id for unit in units])[:32]}"


def _create_trainer(
    units: Sequence[Unit], resources: TrainerResources, mirror: Mirror | None, cache: str | None
) -> TorchTrainer:
    name = _trainer_name(units)
    if mirror is None:
        loop = {"units": list(units), "execute": execute_together}
        return make_trainer(train_units, loop, resources, name=name, folder=str(_trainer_folder(units[0])))
    loop = {"units": list(units), "execute": ExecuteTogetherThere(url=mirror.url, cache=cache)}
    place = _place_trainer(units[0], mirror)
    return make_trainer(train_units, loop, resources, name=name, folder=place, filesystem=mirror.filesystem)


def make_trainer(
    function: Callable[[dict[str, Any]], Any],
    config: dict[str, Any],
    resources: TrainerResources,
    *,
    name: str,
    folder: str,
    filesystem: fs.FileSystem | None = None,
) -> TorchTrainer:
    """Make a trainer whose processes all call a function.

    Args:
        function: Returns what the trainer returns, in the process of rank 0.
        config: What the function takes.
        resources: The processes.
        name: Ray Train resumes what has run under the same name in the same folder.
        folder: For Ray Train's own files.
        filesystem: Of the folder; defaults to that of the nodes.
    """
    per_worker = {"CPU": resources.cpus_per_worker}
    if resources.gpus_per_worker:
        per_worker["GPU"] = resources.gpus_per_worker
    return TorchTrainer(
        function,
        train_loop_config=config,
        torch_config=TorchConfig(
            backend="nccl" if resources.gpus_per_worker else "gloo", timeout_s=int(TIMEOUT.total_seconds())
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.num_workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=per_worker,
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=folder,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(
                max_failures=MAX_FAILURES,
                controller_failure_limit=CONTROLLER_FAILURES,
            ),
        ),
    )


def train_units(config: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Train the units in ``config``; every process of a trainer runs this function.

    Returns:
        Id, error, kind and traceback of each unit that failed after its training.
    """
    context = ray.train.get_context()
    units: list[Unit] = config["units"]
    # Ray resumes whatever has run under the same name and compares no configs
    if context.get_experiment_name() != _trainer_name(units):
        raise ConfigError(f"trainer {context.get_experiment_name()!r} received the units of {_trainer_name(units)!r}")
    world = _find_world()
    failures: list[tuple[str, str, str, str]] = []
    for outcome in config["execute"](units, world):
        if outcome.kind != "done":
            failures.append((outcome.unit.id, outcome.error, outcome.kind, outcome.traceback))
        ray.train.report({"unit": outcome.unit.title, "outcome": outcome.kind})
    return failures


@dataclass
class _Attempt:
    """Run a trainer in a thread, so that results are seen as they are committed.

    In the main thread Ray would also replace the handler of Ctrl-C by one that exits with 0.
    """

    trainer: TorchTrainer
    answer: Any = None
    """What the function of the trainer returned in the process of rank 0."""
    error: Exception | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._thread.start()

    def is_running(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the end, and return whether the trainer still runs."""
        self._thread.join(seconds)
        return self._thread.is_alive()

    def _fit(self) -> None:
        try:
            self.answer = self.trainer.fit().return_value
        except Exception as error:  # passed to the driver's thread, which finds the unit that failed
            self.error = error


def describe_error(error: Exception) -> tuple[str, FailureKind, str]:
    """Return the reason, the kind and the traceback of a trainer's error.

    A process that raises takes the others with it: their broken connections count only if nothing else was raised.
    """
    text = "".join(traceback.format_exception(error))
    raised = getattr(error, "worker_failures", {}).values()
    # an error of a Ray task holds what the task raised
    causes = [getattr(one, "cause", None) or one for one in raised]
    found = [failure_of(None, cause) for cause in causes if not type(cause).__module__.startswith("ray.")]
    if not found:  # Ray itself reports a lost worker, which another run may not lose
        return failure_of(None, next(iter(causes), error)).error, "error", text
    first = next((failure for failure in found if failure.kind == "storage_full"), None)
    first = first or next((failure for failure in found if failure.kind != "error"), found[0])
    return first.error, first.kind, text
