"""Run units on persistent actors of a Ray cluster."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from ungan_dist.cluster.connection import connect_to_ray
from ungan_dist.cluster.contact import Contact
from ungan_dist.cluster.dispatch import Dispatcher, FleetContext
from ungan_dist.cluster.metrics import Metrics
from ungan_dist.cluster.policy import Limits
from ungan_dist.cluster.resources import (
    DRIVER_CPUS_VARIABLE,
    Allocation,
    allocate_workers,
    share_gpus,
    take_whole_gpus,
    without_cpus,
)
from ungan_dist.cluster.shipping import Packing
from ungan_dist.cluster.worker import PROGRESS_GROUP, OnProgress, UnitOutcome, Worker
from ungan_dist.config.execution import FleetConfig
from ungan_dist.errors import Unfinished
from ungan_dist.runs import units as local_units
from ungan_dist.runs.placement import is_timed_alone
from ungan_dist.runs.progress import ProgressCallback, silent
from ungan_dist.runs.units import Done, Failed, Working

ACCELERATOR = "accelerator_type:"
"""Prefix of the resource by which Ray names the type of a node's GPUs."""
MAX_LOSSES = 3
"""How often a function is tried again because its process or node was lost."""


class Fleet:
    """Workers on a Ray cluster, which keep their data and device between calls of ``run_units``.

    They live as long as the ``with`` block. A unit is done when the driver sees its valid result, whatever its call
    returned. A lost worker is replaced, and its units are retried. A unit that fails too often is given up and named.

    Where workers share GPUs, units that must be alone come first, by workers with a whole GPU each.
    """

    def __init__(
        self,
        config: FleetConfig,
        *,
        address: str = "auto",
        output: Path | None = None,
        on_progress: ProgressCallback = silent,
        execute: Callable[[Any, OnProgress], UnitOutcome] = local_units.execute,
        is_done: Callable[[Any], bool] = local_units.is_done,
        is_alone: Callable[[Any], bool] = is_timed_alone,
    ) -> None:
        """Create a fleet without starting it.

        Args:
            config: workers, deadlines and failure limits.
            address: ``auto``, or ``host:port`` of a cluster.
            output: folder of results; the free space of its disk is a metric.
            on_progress: called when workers start or end, and with the reason of a long silence.
            execute: computes a unit in a worker and commits its result; it also gets a callback for progress.
            is_done: whether a unit has a valid result.
            is_alone: whether a unit needs its GPU for itself.
        """
        self._config = config
        self._address = address
        self._output = output
        self._on_progress = on_progress
        self._execute = execute
        self._is_done = is_done
        self._is_alone = is_alone
        self._units_per_gpu = 1
        self._actors: list[Any] = []
        self._share = 0.0
        """GPUs of each living worker."""
        self._loss = ""
        """Why the cluster is lost; no call to Ray is possible then."""
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Fleet:
        with contextlib.ExitStack() as stack:
            stack.enter_context(connect_to_ray(self._address))
            self._metrics = stack.enter_context(Metrics(self._output))
            self._contact, self._packing = Contact(), Packing()
            self.allocation = allocate_workers(self._config, self._list_nodes())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.release_workers()
        self._stack.close()

    def release_workers(self) -> None:
        """End every worker, so that its resources are free; the next units start new ones."""
        for actor in self._actors if not self._loss else ():
            ray.kill(actor)
        self._actors.clear()

    def share_gpus(self, units_per_gpu: int) -> None:
        """Compute several units on each GPU, unless the config sets workers or the GPUs are of several types.

        Args:
            units_per_gpu: Most units on a GPU; one is measured to fit on one type of GPU only.
        """
        is_open = self._config.num_workers is None and self._config.gpus_per_worker is None
        self._units_per_gpu = units_per_gpu if is_open and len(self._list_gpu_types()) <= 1 else 1

    def allocate(self, num_units: int) -> Allocation:
        """Return the workers for units that may share GPUs."""
        return share_gpus(self.allocation, self._list_nodes(), units_per_gpu=self._units_per_gpu, num_units=num_units)

    def run_units(self, units: Sequence[Any]) -> Iterator[Done | Failed | Working]:
        """Run units and yield their outcomes in the order in which they end."""
        if self._loss:
            yield from self._give_up(units)
            return
        together = [unit for unit in units if not self._is_alone(unit)]
        shared, whole = self.allocate(len(together)), take_whole_gpus(self.allocation)
        if shared == whole:
            yield from self._run(units, whole)
            return
        for some, allocation in (([unit for unit in units if self._is_alone(unit)], whole), (together, shared)):
            if some:
                yield from self._give_up(some) if self._loss else self._run(some, allocation)

    def _give_up(self, units: Sequence[Any]) -> Iterator[Failed]:
        """Leave the units for another run, because the cluster is lost."""
        return (Failed(unit=unit, error=self._loss) for unit in units)

    def _run(self, units: Sequence[Any], allocation: Allocation) -> Iterator[Done | Failed | Working]:
        config = self._config
        if self._share != allocation.gpus_per_worker:
            self.release_workers()
            self._share = allocation.gpus_per_worker
        context = FleetContext(
            num_workers=allocation.num_workers,
            limits=Limits(
                max_system_failures=config.max_system_failures,
                max_application_failures=config.max_application_failures,
                deadline_seconds=config.deadline_s,
                wait_for_workers_seconds=config.wait_for_workers_s,
            ),
            start_worker=functools.partial(self._start_worker, allocation),
            is_done=self._is_done,
            on_progress=self._on_progress,
            metrics=self._metrics,
            contact=self._contact,
            packing=self._packing,
        )
        dispatcher = Dispatcher(context, units, self._actors)
        self._actors = []
        try:
            yield from dispatcher.run()
        finally:
            self._metrics.record_idle()
            self._loss = dispatcher.loss
            self._actors = [] if self._loss else dispatcher.release()

    def run_once(self, function: Callable[[Any], Any], argument: Any, *, timeout_s: float = 300.0) -> Any:
        """Run a function on the cluster, with the resources of a worker; again if its process or node is lost.

        Raises:
            TimeoutError: No result in time, for example because other jobs hold the cluster.
            Unfinished: Its process or node was lost each time.
        """
        options: dict[str, Any] = {
            "num_cpus": self.allocation.cpus_per_worker,
            "num_gpus": self.allocation.gpus_per_worker,
            "max_retries": MAX_LOSSES,
        }
        (answer,) = _wait_for([ray.remote(function).options(**options).remote(argument)], timeout_s)
        return answer

    def run_on_each_gpu_type(
        self, function: Callable[[Any], list[Any]], argument: Any, *, timeout_s: float = 900.0
    ) -> list[Any]:
        """Run a function on each type of GPU of the cluster, with a whole GPU, and join the lists it returns.

        Raises:
            TimeoutError: No result in time, for example because other jobs hold the cluster.
            Unfinished: A process or its node was lost each time.
        """
        options: dict[str, Any] = {"num_cpus": self.allocation.cpus_per_worker, "max_retries": MAX_LOSSES}
        labels: list[str] = []
        if self.allocation.gpus_per_worker:
            options["num_gpus"] = max(1.0, self.allocation.gpus_per_worker)
            labels = self._list_gpu_types()
        calls = [
            ray.remote(function).options(**options, resources=resources).remote(argument)
            for resources in ([{label: 0.001} for label in labels] or [{}])
        ]
        return [one for answer in _wait_for(calls, timeout_s) for one in answer]

    def _start_worker(self, allocation: Allocation) -> Any:
        options: dict[str, Any] = {
            "num_cpus": allocation.cpus_per_worker,
            "num_gpus": allocation.gpus_per_worker,
            # the policy replaces workers: with Ray's own restarts, calls to a killed worker never return
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
            "concurrency_groups": {PROGRESS_GROUP: 1},
        }
        return ray.remote(**options)(Worker).remote(self._execute, allocation.gpus_per_worker)

    def _list_nodes(self) -> list[dict[str, Any]]:
        """Return the cluster's nodes without the CPUs that Ray reserves for this driver.

        Raises:
            Unfinished: The head is lost, or was started again.
        """
        if loss := self._contact.wait_for_answer(at_once=True):
            self._loss = loss
            raise Unfinished(f"{loss}: run the same command again once the cluster answers")
        reserved, here = float(os.environ.get(DRIVER_CPUS_VARIABLE, "0")), ray.get_runtime_context().get_node_id()
        return [without_cpus(node, reserved) if node["NodeID"] == here else node for node in ray.nodes()]

    def _list_gpu_types(self) -> list[str]:
        """Return the resources by which Ray names the types of the cluster's GPUs; empty if it names none."""
        alive = [node["Resources"] for node in self._list_nodes() if node["Alive"]]
        return sorted({name for node in alive for name in node if name.startswith(ACCELERATOR)})


def _wait_for(calls: list[Any], timeout_s: float) -> list[Any]:
    """Return the answers of calls, or raise what a function has raised.

    Raises:
        TimeoutError: No answer in time.
        Unfinished: A process or its node was lost each time.
    """
    try:
        return ray.get(calls, timeout=timeout_s)
    except (RayTaskError, TimeoutError):
        raise
    except RayError as error:
        reason = str(error).strip().splitlines()[0]
        raise Unfinished(
            f"the cluster lost the process of a preparation {MAX_LOSSES + 1} times ({reason}): see `ray status`, then "
            "run the same command again"
        ) from error
