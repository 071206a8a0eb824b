"""Where a run is executed, how fast, and how far it is extended; nothing here changes the results of a unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ungan_dist.config.attack import ReportConfig
from ungan_dist.config.checks import positive
from ungan_dist.config.data import DataConfig, GivenConfig


@dataclass(frozen=True, kw_only=True)
class FleetConfig:
    """Workers on a Ray cluster, their deadlines and retries; ignored with --cluster local."""

    num_workers: int | None = None
    """Number of workers; defaults to as many as fit on the cluster."""
    gpus_per_worker: float | None = None
    """GPUs per worker; a fraction such as 0.25 puts several on one. Defaults to 1 if the cluster has GPUs, else 0.
    Shadow models share GPUs by default where their memory allows it. A target has a whole GPU."""
    cpus_per_worker: float = 1.0
    """CPUs per worker."""
    autoscaling: bool = False
    """Request num_workers workers even if the cluster has no room for them yet."""
    wait_for_workers_s: float = 900.0
    """Stop the run after this many seconds without a worker; the same command continues it."""
    deadline_s: float | None = None
    """Kill a worker whose unit takes more seconds than this. Defaults to ten times the longest unit of its kind so far,
    at least 120. Kinds are each method, the originals, and shadow units of one size. The first unit of a kind has no
    deadline; a long silence is reported."""
    max_system_failures: int = 3
    """Lost workers per unit before it is quarantined."""
    max_application_failures: int = 2
    """Exceptions per unit before it is quarantined."""

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
            raise ValueError("fleet.autoscaling needs fleet.num_workers, the size that the cluster may grow to")


Kernels = Literal["auto", "reference", "fused"]


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """Local processes, run folder and progress."""

    num_processes: int | None = None
    """Processes of the local pool; defaults to one per core, or to as many as the GPUs take."""
    run_name: str | None = None
    """Name of the run folder; defaults to the recipe's name and the hash of its identity."""
    keep_shadow_models: bool = False
    """Keep the weights of newly trained shadow models as shadows/<unit>/<shadow>.safetensors. The audit needs only
    their log-odds."""
    progress: Literal["auto", "rich", "plain", "json", "none"] = "auto"
    """Progress on standard error. rich: a bar. plain: a few lines per stage. json: one JSON object per event. none:
    nothing. auto: rich on a terminal or in a notebook, else plain."""
    retry_failed: bool = False
    """Try again what failed in an earlier run, such as a method that diverged. By default it is tried again only after
    a change of the user's code or of a package's version."""
    kernels: Kernels = "auto"
    """Kernels of a new run. auto: a fused kernel where a check on the run's own GPU finds it right and more than 1.1
    times as fast, else the reference. reference: plain PyTorch. fused: every fused kernel; an error if one cannot run.
    A run that exists keeps its kernels."""
    cache: str | None = None
    """Local working folder of each machine when the output is object storage; defaults to ~/.cache/ungan_dist."""

    def __post_init__(self) -> None:
        positive(num_processes=self.num_processes)
        if self.run_name is not None and (
            not self.run_name
            or self.run_name.startswith(".")
            or set(self.run_name) & set("/\\\0?#%")
            or self.run_name in ("data", "shadows")
        ):
            raise ValueError(
                f"run_name must be a plain folder name without ?, # or %, and not data or shadows, which runs share; "
                f"got {self.run_name!r}"
            )


Tracking = Literal["none", "tensorboard", "mlflow", "wandb"]


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """Limits of --until decided."""

    max_seeds: int | None = None
    """Most audit seeds; defaults to four times num_seeds."""
    max_shadows: int | None = None
    """Most shadow models, which are added after all seeds; defaults to shadows.num_models, so that none is added."""
    max_hours: float | None = None
    """No further look begins once the looks so far took this many hours; defaults to no limit."""

    def __post_init__(self) -> None:
        positive(max_seeds=self.max_seeds, max_shadows=self.max_shadows, max_hours=self.max_hours)
        if self.max_shadows is not None and self.max_shadows % 2:
            raise ValueError(f"budget.max_shadows must be even, got {self.max_shadows}")


@dataclass(frozen=True, kw_only=True)
class ExecutionHalf:
    """The part of a config that is not hashed into a run's identity; given files are hashed by content."""

    given: GivenConfig = field(default_factory=GivenConfig)
    until: Literal["complete", "decided"] = "complete"
    """complete: compute what is asked for. decided: begin with it, and double the seeds and then the shadow models
    until every row is decided or the budget ends. The looks are stated before the start and share the error of a
    verdict, so that their number raises no error rate."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    output: str = "runs"
    """Folder for runs, results of shadow models and prepared data, or object storage: s3://bucket/prefix,
    gs://bucket/prefix or file:///folder, with pyarrow's options as the URL's query. Credentials come from the
    environment and from the provider's own files."""
    cluster: str = "local"
    """local: processes on this machine, without Ray. auto: join your Ray cluster on this machine or start one.
    host:port: join that Ray cluster."""
    tracking: Tracking = "none"
    """Also send curves, verdicts and the report to tensorboard, mlflow or wandb (offline by default). Each needs its
    extra, such as ungan-dist[mlflow]. A tracker that fails ends no run."""
    fleet: FleetConfig = field(default_factory=FleetConfig)
    data: DataConfig = field(default_factory=DataConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
