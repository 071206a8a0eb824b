"""Check a Ray cluster: a token protects it, only its owner can read the token, and the nodes match the driver."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import stat
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ungan_dist import __version__
from ungan_dist.cluster.authentication import MODE, TOKEN, explain_missing_token, find_token, token_file
from ungan_dist.cluster.connection import connect_to_ray
from ungan_dist.cluster.encryption_check import check_encryption
from ungan_dist.cluster.jobs_api import is_loopback
from ungan_dist.errors import ConfigError
from ungan_dist.runs.upkeep.doctor import Finding, State

LIBRARIES = ("torch", "ray")
MIN_SHARED_MEMORY = 256 << 20
"""Free bytes in /dev/shm; Ray's object store falls back to the disk below. Docker's default is 64 MiB."""


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """State of one node's worker processes."""

    node: str
    """Address and start of the id, or ``the driver``."""
    error: str = ""
    """Reason for a missing report; the other fields are empty then."""
    versions: dict[str, str] = field(default_factory=dict)
    auth_mode: str = ""
    """Ray's: ``token``, anything else is off."""
    token_error: str = ""
    """Reason why the process would refuse its token."""
    shared_memory: int = 0
    """Free bytes in /dev/shm."""
    folder_error: str = ""
    """Reason why the node's output folder is not the driver's."""


def check_cluster(address: str, output: Path, *, runtime_env: dict[str, Any] | None = None) -> Iterator[Finding]:
    """Run every check of a cluster.

    Args:
        address: ``auto``, or host:port.
        output: Output folder as all nodes must see it, absolute.
        runtime_env: Ray's, for the tasks on the nodes.
    """
    try:
        yield check_token()
    except ConfigError as error:
        yield Finding(name="token", state="failure", detail=str(error), remedy="correct this first")
        return
    try:
        with connect_to_ray(address) as cluster:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            yield Finding(name="cluster", state="ok", detail=f"Ray answers at {cluster}; {len(nodes)} nodes")
            try:
                reports = collect_reports(nodes, output, runtime_env=runtime_env)
            except OSError as error:
                detail = f"the driver cannot write to {output}: {error.strerror or error}"
                yield Finding(name="nodes' folder", state="failure", detail=detail, remedy="see the output folder")
                return
            yield check_authentication(dashboard_addresses(nodes), reports)
            yield check_encryption([node["NodeManagerAddress"] for node in nodes])
            yield from check_nodes(reports, output)
    except ConfigError as error:
        remedy = f"start it (ray start --head), or use its host:port, with its token in {token_file()}"
        yield Finding(name="cluster", state="failure", detail=str(error), remedy=remedy)


def check_token() -> Finding:
    """Check this user's token and who else can read it.

    Raises:
        ConfigError: the token cannot be used.
    """
    token = find_token()
    if token is None:
        detail = (
            f"none ({explain_missing_token()}); only a cluster that this command starts, or an open one, needs none"
        )
        return Finding(name="token", state="ok", detail=detail)
    if token.source == TOKEN:
        return Finding(name="token", state="ok", detail=f"in the variable {TOKEN}")
    mode = stat.S_IMODE(token_file().stat().st_mode)
    if mode & 0o004:
        detail = f"{token.source} has mode {mode:04o} and another owner: every user of this machine can read it"
        return Finding(name="token", state="warning", detail=detail, remedy="ask its owner to protect it")
    return Finding(name="token", state="ok", detail=f"in {token.source}, mode {mode:04o}")


def collect_reports(
    nodes: Sequence[dict[str, Any]],
    output: Path,
    *,
    runtime_env: dict[str, Any] | None = None,
    timeout_s: float = 90,
) -> list[NodeReport]:
    """Return the driver's report and one from each node, by a task on every node at once.

    Args:
        nodes: As returned by ``ray.nodes()``.
        output: Folder in which the driver creates a folder for the nodes to write to; left as it was.
        runtime_env: Ray's, for the tasks.
        timeout_s: Timeout for all nodes together.

    Raises:
        OSError: the driver cannot write to the folder.
    """
    created = next((path for path in reversed((output, *output.parents)) if not path.exists()), None)
    exchange = output / f".doctor.{secrets.token_hex(16)}"
    exchange.mkdir(parents=True)
    try:
        calls = [_call(node["NodeID"], exchange, runtime_env) for node in nodes]
        ray.wait(calls, num_returns=len(calls), timeout=timeout_s)
        reports = [_receive(node, call) for node, call in zip(nodes, calls, strict=True)]
        return [NodeReport(node="the driver", **describe_process()), *reports]
    finally:
        shutil.rmtree(created or exchange, ignore_errors=True)


def _call(node_id: str, exchange: Path, runtime_env: dict[str, Any] | None) -> Any:
    options: dict[str, Any] = {
        # no resources, so that a head without CPUs and a full node answer too
        "num_cpus": 0,
        "max_retries": 0,
        "runtime_env": runtime_env,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
    }
    return ray.remote(report_from_node).options(**options).remote(str(exchange), node_id)


def report_from_node(exchange: str, node_id: str) -> dict[str, Any]:
    """Describe this process, and write into the driver's new folder; runs on a node."""
    error = ""
    try:
        (Path(exchange) / node_id).touch()
    except OSError as failure:
        error = f"{failure.strerror or failure} ({failure.filename})"
    return {**describe_process(), "folder_error": error}


def describe_process() -> dict[str, Any]:
    """Collect the versions, Ray's authentication, and the free shared memory of this process."""
    versions = {"python": platform.python_version(), "ungan-dist": __version__}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed"
    token_error = ""
    try:
        find_token()
    except ConfigError as error:
        token_error = str(error)
    return {
        "versions": versions,
        "auth_mode": os.environ.get(MODE, "").lower(),
        "token_error": token_error,
        "shared_memory": shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else 0,
    }


def _receive(node: dict[str, Any], call: Any) -> NodeReport:
    """Return a call's report, or why there is none; a call without an answer ends with this process's connection."""
    name = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
    try:
        facts: Any = ray.get(call, timeout=0)
    except RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return NodeReport(node=name, error="no answer" if isinstance(error, GetTimeoutError) else lines[-1])
    return NodeReport(node=name, **facts)


def dashboard_addresses(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """List the addresses of the dashboard and its Jobs API: the advertised one, and the head's own."""
    # Ray's public API has the URL only in the process that called ray.init itself
    from ray._private.worker import get_dashboard_url

    advertised = get_dashboard_url()
    if not advertised:
        return []
    port = advertised.rpartition(":")[2]
    heads = [node["NodeManagerAddress"] for node in nodes if "node:__internal_head__" in node["Resources"]]
    return sorted({f"http://{advertised}", *(f"http://{head}:{port}" for head in heads)})


def check_authentication(dashboards: Sequence[str], reports: Sequence[NodeReport]) -> Finding:
    """Check that the Jobs API refuses requests without a token, and that every node uses tokens.

    Args:
        dashboards: http://host:port; each is tried without a token.
        reports: The driver's and the nodes'.
    """
    remedy = "(umask 077; ray get-auth-token --generate), then RAY_AUTH_MODE=token ray start on every node"
    open_ones = [address for address in dashboards if accepts_strangers(address)]
    exposed = [address for address in open_ones if not is_loopback(address)]
    off = [report.node for report in reports if not report.error and report.auth_mode != "token"]
    if exposed:
        detail = f"the Jobs API at {', '.join(exposed)} runs code from anyone who can reach it"
        return Finding(name="authentication", state="failure", detail=detail, remedy=remedy)
    if open_ones or off:
        detail = f"token mode is off: {', '.join(open_ones or off)}"
        return Finding(name="authentication", state="warning", detail=detail, remedy=remedy)
    tried = f"{', '.join(dashboards)} refuses strangers" if dashboards else "no dashboard"
    return Finding(name="authentication", state="ok", detail=f"token mode is on; {tried}")


def accepts_strangers(address: str) -> bool:
    """Return whether a Jobs API lists its jobs without a token; False if it cannot be reached."""
    # without the environment's proxies
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.parse.urljoin(address, "/api/jobs/"), timeout=5) as response:
            return response.status == 200
    except urllib.error.HTTPError as error:
        # another error is no sign of a required token
        return error.code not in (401, 403)
    except OSError:
        return False


def check_nodes(reports: Sequence[NodeReport], output: Path) -> Iterator[Finding]:
    """Compare the nodes' reports with the driver's, which is the first."""
    driver, answered = reports[0], [report for report in reports if not report.error]
    yield _finding(
        "nodes",
        [f"{report.node}: {report.error}" for report in reports if report.error],
        f"{len(reports) - 1} nodes ran a task",
        remedy="see the node's raylet log, and check that ungan-dist is installed there",
    )
    yield _finding(
        "nodes' tokens",
        [f"{report.node}: {report.token_error}" for report in answered if report.token_error],
        "no token file is open to other users",
        remedy="protect the file on that node",
    )
    yield _finding(
        "nodes' folder",
        [f"{report.node}: {report.folder_error}" for report in answered if report.folder_error],
        f"{output} is shared by all nodes that answered",
        remedy=f"mount one shared folder at {output} on every node, writable",
    )
    small = [report for report in answered if report.shared_memory < MIN_SHARED_MEMORY]
    yield _finding(
        "nodes' shared memory",
        [f"{report.node}: {report.shared_memory >> 20} MiB free in /dev/shm" for report in small],
        f"at least {min(report.shared_memory for report in answered) >> 20} MiB free in /dev/shm",
        remedy="in a container, raise it with docker run --shm-size=2g",
        state="warning",
    )
    different = [
        f"{report.node}: {library} {report.versions.get(library)}, the driver has {version}"
        for report in answered
        for library, version in driver.versions.items()
        if report.versions.get(library) != version
    ]
    yield _finding(
        "nodes' versions",
        different,
        ", ".join(f"{library} {version}" for library, version in driver.versions.items()) + " everywhere",
        remedy="install the same requirements.lock, or use the same image, on every node",
    )


def _finding(name: str, problems: Sequence[str], good: str, *, remedy: str, state: State = "failure") -> Finding:
    if problems:
        return Finding(name=name, state=state, detail="; ".join(problems), remedy=remedy)
    return Finding(name=name, state="ok", detail=good)
