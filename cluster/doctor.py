"""Whether a Ray cluster can do the work: is it closed to strangers, and do its nodes agree with the driver?"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ungan_dist import __version__
from ungan_dist.cluster.connection import connect_to_ray
from ungan_dist.cluster.jobs_api import is_loopback
from ungan_dist.errors import ConfigError
from ungan_dist.runs.upkeep.doctor import Finding

LIBRARIES = ("torch", "ray")


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """What a node says of itself."""

    node: str
    """Its address and the start of its id, or ``the driver``."""
    trouble: str = ""
    """Why it said nothing; all else is empty then."""
    versions: dict[str, str]
    """python, torch, ray, ungan-dist."""
    auth_mode: str
    """Ray's, as the node's processes run under it: ``token``, or anything else for off."""
    folder: str
    """Why the output folder is not the driver's there, or empty."""
    seconds_off: float
    """At least so much is its clock away from the driver's."""


def cluster_findings(address: str, output: Path, *, runtime_env: dict[str, Any] | None = None) -> Iterator[Finding]:
    """Every check of a cluster.

    Args:
        address: ``auto``, or host:port.
        output: the output folder, absolute, as all nodes must see it.
        runtime_env: Ray's, for the tasks on the nodes.
    """
    try:
        with connect_to_ray(address):
            nodes = [node for node in ray.nodes() if node["Alive"]]
            yield Finding(name="cluster", state="ok", detail=f"Ray answers, {len(nodes)} nodes")
            try:
                reports = ask_nodes(nodes, output, runtime_env=runtime_env)
            except OSError as error:
                detail = f"the driver cannot write to {output}: {error.strerror or error}"
                remedy = "see the output folder above"
                yield Finding(name="nodes' folder", state="failure", detail=detail, remedy=remedy)
                return
            yield check_authentication(dashboard_addresses(nodes), reports)
            yield check_answers(reports)
            yield check_folder(reports, output)
            yield check_clocks(reports)
            yield check_versions(reports)
    except ConfigError as error:
        remedy = "start it (ray start --head), or give its host:port, the token in ~/.ray/auth_token"
        yield Finding(name="cluster", state="failure", detail=str(error), remedy=remedy)


def ask_nodes(
    nodes: Sequence[dict[str, Any]],
    output: Path,
    *,
    runtime_env: dict[str, Any] | None = None,
    timeout_s: float = 90,
) -> list[NodeReport]:
    """The driver's own report and one of each node, by a task on every node at once.

    Args:
        nodes: as ``ray.nodes()`` lists them.
        output: where the driver leaves a word for the nodes, and they one for the driver; left as it was found.
        runtime_env: Ray's, for the tasks.
        timeout_s: seconds until a node that is silent is given up.

    Raises:
        OSError: the driver cannot write to the folder.
    """
    nonce = secrets.token_hex(16)
    made = next((path for path in reversed((output, *output.parents)) if not path.exists()), None)
    meeting = output / f".doctor.{nonce}"
    meeting.mkdir(parents=True)
    try:
        (meeting / "driver").write_text(nonce)
        calls = {str(node["NodeID"]): _call(node, meeting, nonce, runtime_env) for node in nodes}
        ray.wait([call for call, _ in calls.values()], num_returns=len(calls), timeout=timeout_s)
        return [_own_report(), *(_report(node, *calls[str(node["NodeID"])], meeting, nonce) for node in nodes)]
    finally:
        shutil.rmtree(meeting, ignore_errors=True)
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


def _call(node: dict[str, Any], meeting: Path, nonce: str, runtime_env: dict[str, Any] | None) -> tuple[Any, Any]:
    """A task on a node, and what else is to be asked there afterwards: the time, when its process is warm."""
    options: dict[str, Any] = {
        # no resources: a head without CPUs and a node that is full answer too
        "num_cpus": 0,
        "max_retries": 0,
        "runtime_env": runtime_env,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
    }
    call = ray.remote(answer).options(**options).remote(str(meeting), str(node["NodeID"]), nonce)
    return call, ray.remote(clock).options(**options)


def answer(meeting: str, node: str, nonce: str) -> tuple[dict[str, str], str, str]:
    """On a node: its versions, its authentication mode, and why the folder is not the driver's, or an empty text."""
    trouble = ""
    try:
        if (Path(meeting) / "driver").read_text() != nonce:
            trouble = "what the driver has written reads otherwise"
        (Path(meeting) / node).write_text(nonce + node)
    except OSError as error:
        trouble = f"{error.strerror or error} ({error.filename})"
    return versions(), os.environ.get("RAY_AUTH_MODE", "").lower(), trouble


def clock() -> float:
    """On a node: its time, in seconds since 1970."""
    return time.time()


def versions() -> dict[str, str]:
    """Of all that results and messages between processes depend on."""
    found = {"python": platform.python_version(), "ungan-dist": __version__}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "absent"
    return found


def _own_report() -> NodeReport:
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    return NodeReport(node="the driver", versions=versions(), auth_mode=mode, folder="", seconds_off=0.0)


def _report(node: dict[str, Any], call: Any, ask_time: Any, meeting: Path, nonce: str) -> NodeReport:
    """What became of a node's task; one that has not ended by now is given up."""
    name = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
    try:
        found, mode, folder = ray.get(call, timeout=0)
        seconds_off = min(_seconds_off(ask_time) for _ in range(3))
    except RayError as error:
        ray.cancel(call, force=True)
        words = str(error).strip().splitlines() or [type(error).__name__]
        silent = isinstance(error, GetTimeoutError)
        trouble = "no answer" if silent else words[-1]
        return NodeReport(node=name, trouble=trouble, versions={}, auth_mode="", folder="", seconds_off=0.0)
    folder = folder or _came_back(meeting / node["NodeID"], nonce + node["NodeID"])
    return NodeReport(node=name, versions=found, auth_mode=mode, folder=folder, seconds_off=seconds_off)


def _seconds_off(ask_time: Any) -> float:
    """How far a node's time lies outside of the moments in which it was asked."""
    before = time.time()
    there: Any = ray.get(ask_time.remote(), timeout=30)
    return max(before - there, there - time.time(), 0.0)


def _came_back(path: Path, expected: str, *, patience_s: float = 10) -> str:
    """Why the driver does not read what a node has written, or an empty text; network folders take their time."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            content = path.read_text()
        except OSError as error:
            content, trouble = "", f"what it writes does not reach the driver ({error.strerror or error})"
        else:
            trouble = "" if content == expected else "what it writes reaches the driver altered"
        if not trouble or time.monotonic() > deadline:
            return trouble
        time.sleep(0.2)


def dashboard_addresses(nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Where the dashboard, and with it the Jobs API, may be reached: as Ray names it, and by the head's own address."""
    # Ray tells it publicly only to the process that has called ray.init itself
    from ray._private.worker import get_dashboard_url

    advertised = get_dashboard_url()
    if not advertised:
        return []
    port = advertised.rpartition(":")[2]
    heads = [node["NodeManagerAddress"] for node in nodes if "node:__internal_head__" in node["Resources"]]
    return sorted({f"http://{advertised}", *(f"http://{head}:{port}" for head in heads)})


def check_authentication(dashboards: Sequence[str], reports: Sequence[NodeReport]) -> Finding:
    """No Jobs API answers a stranger, and every node asks for a token.

    Args:
        dashboards: http://host:port, each tried without a token.
        reports: the driver's and the nodes'.
    """
    name = "authentication"
    remedy = "ray get-auth-token --generate, then RAY_AUTH_MODE=token ray start on every node (SECURITY.md)"
    reached = [address for address in dashboards if answers_strangers(address)]
    exposed = [address for address in reached if not is_loopback(address)]
    if exposed:
        detail = f"the Jobs API at {', '.join(exposed)} runs whatever anyone who reaches it sends, without a token"
        return Finding(name=name, state="failure", detail=detail, remedy=remedy)
    off = [report.node for report in reports if not report.trouble and report.auth_mode != "token"]
    if reached or off:
        where = ", ".join(reached or off)
        return Finding(name=name, state="warning", detail=f"token mode is off: {where}", remedy=remedy)
    tried = f"{', '.join(dashboards)} refuses strangers" if dashboards else "no dashboard"
    return Finding(name=name, state="ok", detail=f"token mode is on; {tried}")


def answers_strangers(address: str) -> bool:
    """Whether a Jobs API lists its jobs to one who shows no token; one that cannot be reached from here does not."""
    # around proxies of the environment, which know another way
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.parse.urljoin(address, "/api/jobs/"), timeout=5) as response:
            return response.status == 200
    except urllib.error.HTTPError as error:
        # 401 and 403 are what is wanted; an error of its own says nothing of a token being asked for
        return error.code not in (401, 403)
    except OSError:
        return False


def check_answers(reports: Sequence[NodeReport]) -> Finding:
    """Every node has run a task with the package."""
    bad = [f"{report.node}: {report.trouble}" for report in reports if report.trouble]
    remedy = "look at the node's raylet log, and that ungan-dist is installed there"
    return _verdict("nodes", bad, f"{len(reports) - 1} have run a task", remedy=remedy)


def check_folder(reports: Sequence[NodeReport], output: Path) -> Finding:
    """The output folder is the same folder everywhere."""
    bad = [f"{report.node}: {report.folder}" for report in reports if report.folder]
    remedy = f"mount one shared folder at {output} on every node, writable"
    return _verdict("nodes' folder", bad, f"{output} is shared by all that answered", remedy=remedy)


def check_clocks(reports: Sequence[NodeReport], *, tolerance_s: float = 5) -> Finding:
    """All clocks are within some seconds of the driver's."""
    bad = [f"{report.node}: {report.seconds_off:.1f} s off" for report in reports if report.seconds_off > tolerance_s]
    most = max(report.seconds_off for report in reports)
    remedy = "set the clocks by NTP (timedatectl set-ntp true)"
    return _verdict("nodes' clocks", bad, f"within {most:.1f} s of the driver's", remedy=remedy)


def check_versions(reports: Sequence[NodeReport]) -> Finding:
    """Every node runs what the driver runs."""
    driver, *others = reports
    bad = [
        f"{report.node}: {library} {report.versions.get(library)}, the driver's is {version}"
        for report in others
        if not report.trouble
        for library, version in driver.versions.items()
        if report.versions.get(library) != version
    ]
    same = ", ".join(f"{library} {version}" for library, version in driver.versions.items())
    remedy = "install the same lock (requirements.lock), or run the same image, on every node"
    return _verdict("nodes' versions", bad, f"{same} everywhere", remedy=remedy)


def _verdict(name: str, bad: Sequence[str], good: str, *, remedy: str) -> Finding:
    if bad:
        return Finding(name=name, state="failure", detail="; ".join(bad), remedy=remedy)
    return Finding(name=name, state="ok", detail=good)
