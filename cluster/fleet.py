"""Hundreds of units over a Ray cluster, on persistent actors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray

from ungan_dist.cluster.connection import DRIVER_CPUS, connected, less, room_for
from ungan_dist.cluster.drive import Crew, Drive
from ungan_dist.cluster.metrics import Metrics
from ungan_dist.cluster.policy import Limits
from ungan_dist.cluster.worker import Outcome, Worker
from ungan_dist.config.execution import FleetConfig
from ungan_dist.runs import units as local_units
from ungan_dist.runs.progress import ProgressCallback, silent
from ungan_dist.runs.units import Done, Failed


class Fleet:
    """Workers on a Ray cluster; they live as long as the ``with`` block and keep their data and device between passes.

    A unit counts as done when the driver sees its valid result, whatever became of the call. A lost worker is replaced
    and its units are handed out again; a unit that loses too many, or raises too often, is given up and named.
    """

    def __init__(
        self,
        config: FleetConfig,
        *,
        address: str = "auto",
        on_progress: ProgressCallback = silent,
        execute: Callable[[Any], Outcome] = local_units.execute,
        is_done: Callable[[Any], bool] = local_units.is_done,
    ) -> None:
        """Nothing is started yet.

        Args:
            config: workers and patience.
            address: ``auto``, or host:port of a cluster.
            on_progress: told of workers that come and go, and of what a silence is due to.
            execute: computes a unit in a worker and commits its result.
            is_done: whether a unit has a valid result.
        """
        self._config = config
        self._address = address
        self._on_progress = on_progress
        self._execute = execute
        self._is_done = is_done
        self._actors: list[Any] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Fleet:
        with contextlib.ExitStack() as stack:
            stack.enter_context(connected(self._address))
            self.room = room_for(self._config, _nodes())
            self._metrics = Metrics()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.dismiss()
        self._stack.close()

    def dismiss(self) -> None:
        """Lets go of every worker, so that others find room; the next pass hires anew."""
        for actor in self._actors:
            ray.kill(actor)
        self._actors.clear()

    def run_units(self, units: Sequence[Any]) -> Iterator[Done | Failed]:
        """Runs units and yields what became of each, in the order in which they end."""
        config = self._config
        crew = Crew(
            num_workers=self.room.num_workers,
            limits=Limits(
                max_system_failures=config.max_system_failures,
                max_application_failures=config.max_application_failures,
                deadline_seconds=config.deadline_s,
                wait_for_workers_seconds=config.wait_for_workers_s,
            ),
            hire=self._hire,
            is_done=self._is_done,
            on_progress=self._on_progress,
            metrics=self._metrics,
        )
        drive = Drive(crew, units, self._actors)
        self._actors = []
        try:
            yield from drive.outcomes()
        finally:
            self._actors = drive.release()

    def run_once(self, function: Callable[[Any], Any], argument: Any, *, timeout_s: float = 300.0) -> Any:
        """Run a function once on the cluster, with the resources of a worker.

        Raises:
            TimeoutError: No result in time, for example because other jobs hold the cluster.
        """
        options: dict[str, Any] = {
            "num_cpus": self.room.cpus_per_worker,
            "num_gpus": self.room.gpus_per_worker,
            "max_retries": 0,
        }
        return ray.get(ray.remote(function).options(**options).remote(argument), timeout=timeout_s)

    def _hire(self) -> Any:
        options: dict[str, Any] = {
            "num_cpus": self.room.cpus_per_worker,
            "num_gpus": self.room.gpus_per_worker,
            # the policy replaces workers: under Ray's own restarts, calls to a killed one hang as unavailable
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }
        return ray.remote(Worker).options(**options).remote(self._execute, self.room.gpus_per_worker)


def _nodes() -> list[dict[str, Any]]:
    """The cluster's nodes, without what this driver's own job holds of the one that it runs on."""
    held, here = float(os.environ.get(DRIVER_CPUS, "0")), ray.get_runtime_context().get_node_id()
    return [less(node, held) if node["NodeID"] == here else node for node in ray.nodes()]
