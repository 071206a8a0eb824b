"""Our own rules for KubeRay manifests: what the operator's schema cannot know, and its misspelt keys without it.

Sources: the operator's own validation (ray-operator/controllers/ray/utils/validation.go) and what an audit needs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from ungan_dist.cluster.secret_lint import find_secrets
from ungan_dist.config.audit import AuditConfig
from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url

Document = Mapping[str, Any]
ReadCommand = Callable[[list[str]], AuditConfig]
"""The words after ``ungan-dist run`` → the config that they mean."""

MAX_NAME_LENGTH = 47
"""The operator appends to it and stays below Kubernetes' 63."""

_TOP = {"apiVersion", "kind", "metadata", "spec"}
_JOB = {
    *("entrypoint", "entrypointNumCpus", "submissionMode", "backoffLimit", "activeDeadlineSeconds", "metadata"),
    *("shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec", "runtimeEnvYAML", "suspend"),
}
_CLUSTER = {
    *("rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec"),
    *("workerGroupSpecs", "networkPolicy", "tlsOptions"),
}
_HEAD = {"rayStartParams", "template", "serviceType", "resources", "labels"}
_GROUP = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template", "idleTimeoutSeconds"),
    *("labels", "resources"),
}
_POD = {
    *("restartPolicy", "automountServiceAccountToken", "securityContext", "containers", "volumes", "tolerations"),
    *("nodeSelector", "affinity", "imagePullSecrets", "serviceAccountName", "priorityClassName"),
}
_CONTAINER = {
    *("name", "image", "imagePullPolicy", "env", "envFrom", "ports", "resources", "securityContext"),
    *("volumeMounts", "lifecycle"),
}
_AUTOSCALER = {"version", "idleTimeoutSeconds", "upscalingMode", "resources", "imagePullPolicy"}


def problems(document: Document, *, ray_version: str, read_command: ReadCommand) -> list[str]:
    """Everything that is wrong with a RayJob or RayCluster, in sentences that name the field; none: it may be used.

    Args:
        document: the manifest as plain data.
        ray_version: Ray's version on the side that submits; a cluster of another version refuses its jobs.
        read_command: the command line's own reading of an entrypoint.
    """
    kind = document.get("kind")
    if document.get("apiVersion") != "ray.io/v1" or kind not in ("RayJob", "RayCluster"):
        return [f"apiVersion and kind must be ray.io/v1 and RayJob or RayCluster, got {kind!r}"]
    spec = document.get("spec") or {}
    cluster = (spec.get("rayClusterSpec") or {}) if kind == "RayJob" else spec
    try:
        return [
            *_unknown(document, _TOP, ""),
            *_metadata(document),
            *(_job(spec) if kind == "RayJob" else ()),
            *_cluster(cluster, ray_version),
            *(_entrypoint(spec, read_command) if kind == "RayJob" else ()),
            *find_secrets(document),
            *find_secrets(yaml.safe_load(spec.get("runtimeEnvYAML") or "{}"), "spec.runtimeEnvYAML"),
        ]
    except (AttributeError, KeyError, TypeError, IndexError) as error:
        return [f"the manifest is not of the expected shape ({type(error).__name__}: {error})"]


def _unknown(given: Document, known: set[str], where: str) -> Iterator[str]:
    for key in sorted(set(given) - known):
        yield f"{where}{key} is not a field that is used here: misspelt? Known: {', '.join(sorted(known))}"


def _metadata(document: Document) -> Iterator[str]:
    name = str((document.get("metadata") or {}).get("name", ""))
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > MAX_NAME_LENGTH:
        yield (
            f"metadata.name must be lower-case letters, digits and hyphens, begin with a letter and have at most "
            f"{MAX_NAME_LENGTH} characters, got {name!r}"
        )


def _job(spec: Document) -> Iterator[str]:
    yield from _unknown(spec, _JOB, "spec.")
    if not spec.get("shutdownAfterJobFinishes"):
        yield "spec.shutdownAfterJobFinishes must be true: the cluster would stay, and cost, after the audit"
        if spec.get("ttlSecondsAfterFinished"):
            yield "spec.ttlSecondsAfterFinished needs shutdownAfterJobFinishes: true"
    if int(spec.get("ttlSecondsAfterFinished", 0)) < 0:
        yield f"spec.ttlSecondsAfterFinished must not be negative, got {spec['ttlSecondsAfterFinished']}"
    if int(spec.get("backoffLimit", 0)) < 0:
        yield f"spec.backoffLimit must not be negative, got {spec['backoffLimit']}"
    if int(spec.get("activeDeadlineSeconds", 0)) <= 0:
        yield "spec.activeDeadlineSeconds must be positive: without it a job that hangs keeps its GPUs for ever"
    if spec.get("submissionMode") != "SidecarMode":
        yield f"spec.submissionMode must be SidecarMode, got {spec.get('submissionMode')!r}"
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    if head.get("restartPolicy") != "Never":
        yield "the head's restartPolicy must be Never in SidecarMode"
    if spec.get("entrypointNumCpus") and not _driver_groups(spec["rayClusterSpec"]):
        yield (
            f"spec.entrypointNumCpus is {spec['entrypointNumCpus']}, but the head gives no CPUs and no group without "
            f"GPUs has minReplicas of at least 1: the driver would wait for ever"
        )


def _driver_groups(cluster: Document) -> list[Document]:
    return [group for group in cluster["workerGroupSpecs"] if not gpus_of(group) and group["minReplicas"] >= 1]


def gpus_of(group: Document) -> int:
    """GPUs of one pod of a worker group."""
    limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    return int(limits.get("nvidia.com/gpu", 0))


def _cluster(cluster: Document, ray_version: str) -> Iterator[str]:
    yield from _unknown(cluster, _CLUSTER, "rayClusterSpec.")
    yield from _unknown(cluster.get("autoscalerOptions") or {}, _AUTOSCALER, "autoscalerOptions.")
    if cluster.get("rayVersion") != ray_version:
        yield f"rayVersion must be the locked {ray_version}, got {cluster.get('rayVersion')!r}"
    if (cluster.get("authOptions") or {}).get("mode") != "token":
        yield "authOptions.mode must be token: whoever reaches an open Jobs API runs code on the cluster"
    head = cluster["headGroupSpec"]
    yield from _unknown(head, _HEAD, "headGroupSpec.")
    if head.get("rayStartParams", {}).get("num-cpus") != "0":
        yield 'headGroupSpec.rayStartParams.num-cpus must be "0": work on the head takes the cluster down with it'
    yield from _pod(head["template"], "headGroupSpec", ray_version, "ray-head")
    names = [group.get("groupName") for group in cluster["workerGroupSpecs"]]
    if len(set(names)) != len(names):
        yield f"groupName must differ between worker groups, got {names}"
    for group in cluster["workerGroupSpecs"]:
        yield from _group(group, cluster, ray_version)


def _group(group: Document, cluster: Document, ray_version: str) -> Iterator[str]:
    name = f"worker group {group.get('groupName')}"
    yield from _unknown(group, _GROUP, f"{name}: ")
    least, now, most = (int(group[key]) for key in ("minReplicas", "replicas", "maxReplicas"))
    if not 0 <= least <= now <= most:
        yield f"{name}: 0 ≤ minReplicas ≤ replicas ≤ maxReplicas must hold, got {least}, {now}, {most}"
    if least < most and not cluster.get("enableInTreeAutoscaling"):
        yield f"{name}: between {least} and {most} replicas nothing scales: set enableInTreeAutoscaling"
    if gpus_of(group) and least:
        yield f"{name}: minReplicas must be 0, got {least}: GPUs are held only while there is work for them"
    pod = group["template"]["spec"]
    if gpus_of(group) and not any(one.get("key") == "nvidia.com/gpu" for one in pod.get("tolerations", ())):
        yield f"{name}: needs a toleration of nvidia.com/gpu, else it is never placed on a tainted GPU node"
    if pod.get("automountServiceAccountToken") is not False:
        yield f"{name}: automountServiceAccountToken must be false: workers have no business with Kubernetes"
    yield from _pod(group["template"], name, ray_version, "ray-worker")


def _pod(template: Document, where: str, ray_version: str, container_name: str) -> Iterator[str]:
    pod = template["spec"]
    yield from _unknown(pod, _POD, f"{where}.template.spec.")
    if pod.get("restartPolicy") != "Never":
        yield f"{where}: restartPolicy must be Never under autoscaler v2, got {pod.get('restartPolicy')!r}"
    if not (pod.get("securityContext") or {}).get("runAsNonRoot"):
        yield f"{where}: securityContext.runAsNonRoot must be true"
    if len(pod["containers"]) != 1:
        yield f"{where}: one container is expected, got {len(pod['containers'])}"
    container = pod["containers"][0]
    yield from _unknown(container, _CONTAINER, f"{where}: container.")
    if container.get("name") != container_name:
        yield f"{where}: the container must be named {container_name}, got {container.get('name')!r}"
    yield from _image(str(container.get("image", "")), where, ray_version)
    if (container.get("securityContext") or {}).get("allowPrivilegeEscalation") is not False:
        yield f"{where}: securityContext.allowPrivilegeEscalation must be false"
    for variable in container.get("env", ()):
        if variable.get("name") == "RAY_AUTH_MODE" and variable.get("value") != "token":
            yield f"{where}: RAY_AUTH_MODE must be token, got {variable.get('value')!r}"
    resources = container.get("resources") or {}
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for resource in ("cpu", "memory", "nvidia.com/gpu"):
        if requests.get(resource) != limits.get(resource):
            yield f"{where}: requests and limits of {resource} must be equal: Ray plans with the limits"
    if not limits.get("cpu") or not limits.get("memory"):
        yield f"{where}: limits of cpu and memory are needed: without them Ray counts the whole node as its own"
    yield from _volumes(pod, container, where)


def _image(image: str, where: str, ray_version: str) -> Iterator[str]:
    _, _, tag = image.rpartition("/")[2].partition(":")
    if "@sha256:" not in image and ray_version not in tag:
        yield (
            f"{where}: image {image!r} must be tagged with Ray's version, as NAME:{ray_version} or "
            f"NAME:{ray_version}-1, or be named by its digest: a cluster of another version refuses its workers"
        )


def _volumes(pod: Document, container: Document, where: str) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in pod.get("volumes", ())}
    mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", ())}
    for path, name in mounts.items():
        if name not in volumes:
            yield f"{where}: {path} mounts {name!r}, which is no volume of the pod"
    shared = volumes.get(mounts.get("/dev/shm", ""), {})
    if (shared.get("emptyDir") or {}).get("medium") != "Memory":
        yield f"{where}: /dev/shm must be a memory-backed emptyDir: Kubernetes gives 64 MiB, Ray's objects need more"


def _entrypoint(spec: Document, read_command: ReadCommand) -> Iterator[str]:
    """The command must be one that runs, asks for no more GPUs than the groups grow to, and writes where all see it."""
    words = shlex.split(spec.get("entrypoint", ""))
    if words[:4] != ["python", "-m", "ungan_dist", "run"]:
        yield f"spec.entrypoint must begin with python -m ungan_dist run, got {spec.get('entrypoint')!r}"
        return
    try:
        config = read_command(words[4:])
    except (ConfigError, SystemExit) as error:
        yield f"spec.entrypoint is not a command that runs: {error}"
        return
    cluster = spec["rayClusterSpec"]
    if config.cluster != "auto":
        yield f"spec.entrypoint: --cluster must be auto, got {config.cluster!r}"
    room = sum(gpus_of(group) * int(group["maxReplicas"]) for group in cluster["workerGroupSpecs"])
    wanted = (config.fleet.num_workers or 0) * (config.fleet.gpus_per_worker or 0)
    if wanted > room:
        yield f"spec.entrypoint asks for {wanted:g} GPUs, the worker groups grow to {room}"
    if config.output.startswith("/"):
        groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
        for group in groups:
            name = group.get("groupName", "the head")
            paths = [mount["mountPath"] for mount in group["template"]["spec"]["containers"][0]["volumeMounts"]]
            if not any(f"{config.output}/".startswith(f"{path.rstrip('/')}/") for path in paths):
                yield f"--output {config.output} lies on no volume of {name}: it would be lost"
    elif not is_url(config.output):
        yield (
            f"--output must be absolute, on a volume of every pod, or object storage, got {config.output!r}: "
            f"it would die with the pod"
        )
