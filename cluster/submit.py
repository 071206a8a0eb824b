"""An audit as a job of a Ray cluster: prepared, handed in, followed and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist.cluster.connection import DRIVER_CPUS, less, room_for
from ungan_dist.cluster.job_outcome import ENDED, Job
from ungan_dist.cluster.secret_lint import find_secrets
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import FleetConfig
from ungan_dist.config.identity import content_hash, identity
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.urls import is_url, join_url, refuse_credentials

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

STOP_SECONDS = 30
"""From SIGTERM to SIGKILL of a stopped job: time for its partial report."""
LOST_SECONDS = 60.0
"""How long a cluster may be out of reach before following it is given up."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A run as a job."""

    hash: str
    """The same for every attempt at the same run in the same place."""
    run: str
    """The run folder."""
    entrypoint: str


def prepare(config: AuditConfig, recipe: str, options: list[str]) -> Submission:
    """Names a run and its folder, and writes its command.

    Append-only options are no part of the hash: a longer run is the same run, and must not meet itself.

    Args:
        config: what the recipe and the options mean, ``output`` where the cluster writes.
        recipe: its name.
        options: of ``ungan-dist run``, as on the command line.

    Raises:
        ConfigError: an output that would not outlive the job, or a secret in the options.
    """
    if is_url(config.output):
        refuse_credentials(config.output)
    elif not Path(config.output).is_absolute():
        raise ConfigError(
            f"--output must be an absolute folder that all nodes share, or object storage (s3://…, gs://…), got "
            f"{config.output!r}: a job's own folder is gone when it ends"
        )
    given = {name: path for name, path in dataclasses.asdict(config.given).items() if path is not None}
    for name, path in given.items():
        if not Path(path).is_absolute():
            raise ConfigError(f"given.{name} must be an absolute path that all nodes share, got {path!r}")
    place = {"output": config.output.rstrip("/"), "source": config.source.path, "name": config.execution.run_name}
    digest = content_hash({"identity": identity(config), **place, **({"given": given} if given else {})})[:12]
    name = config.execution.run_name or f"{recipe}-{digest[:8]}"
    cluster = "auto" if config.cluster == "local" else config.cluster
    words = ["python", "-m", "ungan_dist", "run", recipe, *options, "--output", config.output]
    words += ["--execution.run-name", name, "--cluster", cluster, "--execution.progress", "json"]
    secrets = find_secrets(words, "the command")
    if secrets:
        raise ConfigError(
            f"{'; '.join(secrets)}: every reader of a cluster's jobs sees it. Put it on the nodes instead"
        )
    run = join_url(config.output, name) if is_url(config.output) else f"{place['output']}/{name}"
    return Submission(hash=digest, run=run, entrypoint=shlex.join(words))


@dataclass(frozen=True, kw_only=True)
class Code:
    """What a job is shipped with."""

    folder: Path
    num_files: int
    num_bytes: int


@contextlib.contextmanager
def trimmed_code() -> Iterator[Code]:
    """A folder with the package alone: no data, no runs, no history, no caches."""
    import ungan_dist

    package = Path(str(ungan_dist.__file__)).parent
    with tempfile.TemporaryDirectory(prefix="ungan-submit-") as place:
        # its links to kernels/ and cluster/ become folders
        shutil.copytree(package, Path(place) / package.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        files = [path for path in Path(place).rglob("*") if path.is_file()]
        yield Code(folder=Path(place), num_files=len(files), num_bytes=sum(path.stat().st_size for path in files))


def driver_cpus(nodes: list[dict[str, Any]]) -> float | None:
    """CPUs for the driver: one where any node has one to give, none where it would wait for ever."""
    return 1.0 if any(_can_hold(node, 1.0) for node in nodes) else None


def check_room(config: FleetConfig, nodes: list[dict[str, Any]]) -> None:
    """Whether a fleet and its driver fit, wherever among the nodes Ray will put the driver.

    Raises:
        ConfigError: they do not, wherever it is put.
    """
    cpus = driver_cpus(nodes)
    if cpus is None:
        room_for(config, nodes)
        return
    refusal = None
    hosts = {str(sorted(node["Resources"].items())): at for at, node in enumerate(nodes) if _can_hold(node, cpus)}
    for host in hosts.values():
        try:
            room_for(config, [less(node, cpus) if at == host else node for at, node in enumerate(nodes)])
        except ConfigError as error:
            refusal = error
        else:
            return
    raise ConfigError(f"beside the driver, which takes {cpus:g} CPU, {refusal}")


def _can_hold(node: dict[str, Any], cpus: float) -> bool:
    return node["Alive"] and node["Resources"].get("CPU", 0) >= cpus


def cluster_nodes(address: str) -> list[dict[str, Any]]:
    """A cluster's nodes and their resources, as ``ray.nodes()`` would list them from within."""
    from ray.util.state import list_nodes

    # a head that has just come up lists itself some seconds later
    deadline = time.monotonic() + 10
    while True:
        nodes: list[Any] = list_nodes(address=address, detail=True, limit=10_000)
        if any(node.resources_total for node in nodes) or time.monotonic() > deadline:
            return [{"Alive": node.state == "ALIVE", "Resources": node.resources_total or {}} for node in nodes]
        time.sleep(1)


def attempts(client: JobSubmissionClient, submission: Submission) -> list[Job]:
    """All jobs of a run that the cluster remembers, oldest first."""
    jobs = [_job(details) for details in client.list_jobs() if details.submission_id]
    ours = [job for job in jobs if _attempt(job.id, submission.hash)]
    return sorted(ours, key=lambda job: _attempt(job.id, submission.hash))


def _attempt(id: str, digest: str) -> int:
    prefix, _, number = id.rpartition("-")
    return int(number) if prefix == digest and number.isdecimal() else 0


def hand_in(client: JobSubmissionClient, submission: Submission, code: Code, nodes: list[dict[str, Any]]) -> str:
    """Hands a run in and returns the job's id, ``<hash>-<attempt>``.

    Raises:
        ConfigError: the same run is at work already, or a secret would be in the runtime environment.
    """
    before = attempts(client, submission)
    for job in before:
        if not job.ended:
            raise ConfigError(
                f"this run is at work already: job {job.id} is {job.state}. Follow it with ungan-dist status {job.id}, "
                f"or end it with ungan-dist cancel {job.id}"
            )
    id = f"{submission.hash}-{_attempt(before[-1].id, submission.hash) + 1 if before else 1}"
    environment: dict[str, Any] = {
        "working_dir": str(code.folder),
        "env_vars": {
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
            "PYTHONUNBUFFERED": "1",
            DRIVER_CPUS: str(driver_cpus(nodes) or 0),
        },
    }
    secrets = find_secrets(environment, "the runtime environment")
    if secrets:
        raise ConfigError("; ".join(secrets))
    try:
        return client.submit_job(
            entrypoint=submission.entrypoint,
            submission_id=id,
            runtime_env=environment,
            metadata={"ungan_run": submission.run},
            entrypoint_num_cpus=driver_cpus(nodes),
        )
    except RuntimeError as error:
        if "already exists" in str(error):
            raise ConfigError(f"this run was handed in at the same time by somebody else, as job {id}") from error
        raise


def get_job(client: JobSubmissionClient, id: str) -> Job:
    """A job by its id.

    Raises:
        ConfigError: the cluster knows no such job.
    """
    try:
        return _job(client.get_job_info(id))
    except RuntimeError as error:
        if "404" in str(error):
            raise ConfigError(f"the cluster knows no job {id!r}") from error
        raise


def _job(details: Any) -> Job:
    return Job(
        id=details.submission_id or "",
        state=str(getattr(details.status, "value", details.status)),
        started=(details.start_time or 0) / 1000,
        finished=details.end_time / 1000 if details.end_time else None,
        exit_code=details.driver_exit_code,
        message=details.message or "",
        run=(details.metadata or {}).get("ungan_run", ""),
    )


def follow(client: JobSubmissionClient, id: str, write: Callable[[str], object]) -> Job:
    """Writes a job's log as it grows, until it has ended; a broken connection is taken up where it broke.

    Raises:
        Unfinished: the cluster is out of reach; the job may go on.
    """
    from aiohttp import ClientError

    written = 0
    reached = time.monotonic()
    while True:
        try:
            for chunk in _log_from(client, id, written):
                written += len(chunk)
                write(chunk)
            job = get_job(client, id)
            reached = time.monotonic()
            if job.ended:
                return job
        except (OSError, RuntimeError, ClientError) as error:
            if time.monotonic() - reached > LOST_SECONDS:
                raise Unfinished(f"the cluster is out of reach ({error}); job {id} may go on without us") from error
        time.sleep(1)


def _log_from(client: JobSubmissionClient, id: str, written: int) -> Iterator[str]:
    """The log beyond what was written; every connection begins at its first line."""
    log = client.tail_job_logs(id)

    async def chunk() -> str | None:
        return await anext(log, None)

    with asyncio.Runner() as runner:
        while (text := runner.run(chunk())) is not None:
            fresh = text[written:]
            written = max(0, written - len(text))
            if fresh:
                yield fresh


def stop(client: JobSubmissionClient, id: str) -> Job:
    """Stops a job and waits for its end; what it has committed is kept.

    Raises:
        ConfigError: the cluster knows no such job.
        Unfinished: it has not ended in time.
    """
    job = get_job(client, id)
    if job.ended:
        return job
    client.stop_job(id)
    deadline = time.monotonic() + STOP_SECONDS + 30
    while time.monotonic() < deadline:
        job = get_job(client, id)
        if job.state in ENDED:
            return job
        time.sleep(0.5)
    raise Unfinished(f"job {id} was told to stop and is still {job.state}")
