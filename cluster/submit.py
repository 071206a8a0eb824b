"""Submit an audit to a cluster's Jobs API."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.cluster.jobs import RUN_KEY, STOP_SECONDS
from ungan_dist.cluster.resources import DRIVER_CPUS_VARIABLE
from ungan_dist.cluster.secret_lint import find_secrets
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import content_hash, identity
from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url, join_url, refuse_credentials

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

DRIVER_CPUS = 1
"""CPUs that Ray reserves for the driver, so that it runs on a node with CPUs and not on a head without any."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A run as a job."""

    hash: str
    """The same for every attempt at the same run in the same place."""
    run: str
    """The run folder."""
    entrypoint: str


def prepare_submission(config: AuditConfig, recipe: str, options: list[str]) -> Submission:
    """Derive a run's job id, folder and command.

    Options that only extend a run are not hashed: a longer run has the same id, so both cannot run at once.

    Args:
        config: of the recipe with the options, ``output`` as seen by the cluster.
        recipe: its name.
        options: of ``ungan-dist run``, as on the command line.

    Raises:
        ConfigError: the output would be lost with the job, or the options contain a secret.
    """
    if is_url(config.output):
        refuse_credentials(config.output)
    elif not Path(config.output).is_absolute():
        raise ConfigError(
            f"--output must be an absolute folder that all nodes share, or object storage (s3://…, gs://…), got "
            f"{config.output!r}: a job's working folder is deleted at its end"
        )
    refuse_relative_paths(config, "that all nodes share")
    given = {name: value for name, value in dataclasses.asdict(config.given).items() if value is not None}
    place = {"output": config.output.rstrip("/"), "source": config.source.path, "name": config.execution.run_name}
    digest = content_hash({"identity": identity(config), **place, **({"given": given} if given else {})})[:12]
    name = config.execution.run_name or f"{recipe}-{digest[:8]}"
    cluster = "auto" if config.cluster == "local" else config.cluster
    entrypoint = shlex.join(
        [
            *("python", "-m", "ungan_dist", "run", recipe, *options, "--output", config.output),
            *("--execution.run-name", name, "--cluster", cluster),
        ]
    )
    if secrets := find_secrets(entrypoint):
        raise ConfigError(f"the command contains {', '.join(secrets)}, which every user of the cluster could read")
    run = join_url(config.output, name) if is_url(config.output) else f"{place['output']}/{name}"
    return Submission(hash=digest, run=run, entrypoint=entrypoint)


def refuse_relative_paths(config: AuditConfig, where: str) -> None:
    """Refuse input files that another machine would look for in its own working folder.

    Args:
        config: of the run.
        where: what an absolute path must be.

    Raises:
        ConfigError: a path is relative.
    """
    paths = {"source.path": config.source.path} | {f"given.{name}": path for name, path in config.given.files.items()}
    for name, path in paths.items():
        if path is not None and "://" not in path and not Path(path).is_absolute():
            raise ConfigError(f"--{name} must be an absolute path {where}, got {path!r}")


def submit_job(client: JobSubmissionClient, submission: Submission, code: Path) -> str:
    """Submit a run and return the job's id, ``<hash>-<attempt>``.

    Args:
        client: of the cluster's Jobs API.
        submission: the run.
        code: folder that is sent along as the job's working folder.

    Raises:
        ConfigError: the same run is active already.
    """
    attempts = [0]
    for job in client.list_jobs():
        prefix, _, number = (job.submission_id or "").rpartition("-")
        if prefix != submission.hash or not number.isdecimal():
            continue
        if not job.status.is_terminal():
            raise ConfigError(
                f"this run is active already: job {job.submission_id} is {job.status.value}. Follow it with "
                f"ungan-dist status {job.submission_id}, or stop it with ungan-dist cancel {job.submission_id}"
            )
        attempts.append(int(number))
    id = f"{submission.hash}-{max(attempts) + 1}"
    try:
        return client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=id,
            runtime_env={
                "working_dir": str(code),
                "env_vars": {
                    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
                    "PYTHONUNBUFFERED": "1",
                    DRIVER_CPUS_VARIABLE: str(DRIVER_CPUS),
                },
            },
            metadata={RUN_KEY: submission.run},
            entrypoint_num_cpus=DRIVER_CPUS,
        )
    except RuntimeError as error:
        if "already exists" in str(error):
            raise ConfigError(f"this run was submitted at the same time by another user, as job {id}") from error
        raise
