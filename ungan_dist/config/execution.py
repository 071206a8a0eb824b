"""Where a run is carried out and how fast; never what its result is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ungan_dist.config.checks import positive


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """Where and how fast; never what the result is."""

    num_processes: int | None = None
    """Processes of the local pool; none: one a core."""
    run_name: str | None = None
    """Name of the run folder; none: the recipe's name and the hash of its identity."""
    keep_shadow_models: bool = False
    """Keep the weights of shadow models trained from now on, shadows/<unit>/<shadow>.safetensors; their log-odds are
    all that the audit needs."""
    progress: Literal["auto", "rich", "json", "none"] = "auto"
    """auto: rich on a terminal, JSON lines otherwise."""
    cache: str | None = None
    """Folder on each machine that works on an output in object storage; none: ~/.cache/ungan_dist."""

    def __post_init__(self) -> None:
        positive(num_processes=self.num_processes)
        if self.run_name is not None and (
            not self.run_name
            or self.run_name.startswith(".")
            or set(self.run_name) & set("/\\\0?#%")
            or self.run_name in ("data", "shadows")
        ):
            raise ValueError(
                f"run_name must be a plain folder name without ?, # or %, and neither data nor shadows, which runs "
                f"share; got {self.run_name!r}"
            )


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """Workers on a Ray cluster, and how patient it is with them; without meaning where --cluster is local."""

    num_workers: int | None = None
    """Workers; none: as many as the cluster has room for."""
    gpus_per_worker: float | None = None
    """GPUs a worker holds; a share such as 0.25 puts several on one. None: 1 where the cluster has GPUs, else 0."""
    cpus_per_worker: float = 1.0
    """CPUs a worker holds."""
    autoscaling: bool = False
    """The cluster grows on demand: ask for num_workers workers although it has no room for them yet."""
    wait_for_workers_s: float = 900.0
    """Seconds without a single worker after which the run stops, to be continued by the same command."""
    deadline_s: float | None = None
    """Seconds a unit may take before its worker is killed; none: ten times the longest of its kind so
    far, at least 120. Kinds are each method, the originals, and blocks of as many shadow models; the first of a kind
    has no deadline, but a long silence names it."""
    max_system_failures: int = 3
    """Workers that a unit may lose before it is quarantined."""
    max_application_failures: int = 2
    """Exceptions that a unit may raise before it is quarantined."""

    def __post_init__(self) -> None:
        positive(
            num_workers=self.num_workers,
            gpus_per_worker=self.gpus_per_worker or None,
            cpus_per_worker=self.cpus_per_worker,
            wait_for_workers_s=self.wait_for_workers_s,
            deadline_s=self.deadline_s,
            max_system_failures=self.max_system_failures,
            max_application_failures=self.max_application_failures,
        )
        if self.gpus_per_worker is not None and (
            self.gpus_per_worker < 0 or (self.gpus_per_worker > 1 and self.gpus_per_worker % 1)
        ):
            raise ValueError(f"gpus_per_worker must be a share of one GPU or whole GPUs, got {self.gpus_per_worker}")
        if self.autoscaling and self.num_workers is None:
            raise ValueError("fleet.autoscaling needs fleet.num_workers: how far the cluster may grow")
