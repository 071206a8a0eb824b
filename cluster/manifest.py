"""Fill the KubeRay template for a recipe."""

from __future__ import annotations

import re
import shlex
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from ungan_dist.cluster.secret_lint import find_secrets
from ungan_dist.cluster.submit import refuse_relative_paths
from ungan_dist.config.audit import AuditConfig
from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url

TEMPLATE = Path(__file__).parent / "manifests" / "kuberay" / "rayjob-audit.yaml"
MOUNT = PurePosixPath("/results")
"""Where every pod mounts the volume claim."""
MAX_NAME_LENGTH = 47
"""The operator appends to the name and stays below Kubernetes' limit of 63."""
CPU_WORKERS = 8

_HEADER = """\
# {recipe} on KubeRay, written by `ungan-dist manifest kuberay`. Apply it with: kubectl apply -f -
# A retry continues what the volume claim holds. Apply kuberay/network-policy.yaml too: a token does not encrypt.
"""


class _Dumper(yaml.SafeDumper):
    """Write repeated values in full: anchors are for people who edit."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def complete_options(recipe: str, options: list[str], *, gpus: int, gpus_per_node: int, output: str) -> list[str]:
    """Add a manifest's own options to those of ``ungan-dist run``.

    The last of two equal options wins, so ``options`` may change the fleet and the run's name, but never the place.

    Raises:
        ConfigError: the number of GPUs is negative, or they do not fill whole nodes.
    """
    if gpus < 0:
        raise ConfigError(f"--gpus must be 0, for CPUs alone, or more, got {gpus}")
    if gpus_per_node < 1 or gpus % gpus_per_node:
        raise ConfigError(f"--gpus must be a multiple of --gpus-per-node, got {gpus} and {gpus_per_node}")
    fleet = ["--fleet.num-workers", str(gpus or CPU_WORKERS), "--fleet.gpus-per-worker", str(int(gpus > 0))]
    defaults = [*fleet, "--fleet.autoscaling", "--execution.run-name", recipe]
    return [*defaults, *options, "--output", output, "--cluster", "auto"]


def render_kuberay_job(
    config: AuditConfig, recipe: str, options: list[str], *, gpus: int, gpus_per_node: int, image: str, claim: str
) -> str:
    """Return a RayJob, as YAML, that runs a recipe on a cluster of its own.

    Args:
        config: of the recipe with the options.
        recipe: its name.
        options: from ``complete_options``.
        gpus: in total; 0 uses CPUs alone.
        gpus_per_node: of one pod.
        image: with a tag that contains Ray's version, or with a digest.
        claim: the PersistentVolumeClaim that every pod mounts under ``/results``.

    Raises:
        ConfigError: a value is out of range or cannot work on the cluster.
    """
    wanted = (config.fleet.num_workers or 0) * (config.fleet.gpus_per_worker or 0)
    if wanted > gpus:
        raise ConfigError(f"the fleet needs {wanted:g} GPUs, but --gpus is {gpus}")
    if not is_url(config.output) and not PurePosixPath(config.output).is_relative_to(MOUNT):
        raise ConfigError(f"--output must be under {MOUNT}, or object storage, got {config.output!r}: a pod is deleted")
    refuse_relative_paths(config, f"in the pods, such as one under {MOUNT}, where they mount the volume claim")
    ray_version = metadata.version("ray")
    tag = image.rpartition("/")[2].partition(":")[2]
    if "@sha256:" not in image and ray_version not in tag:
        raise ConfigError(
            f"--image must have a tag with Ray's version, such as NAME:{ray_version}, or a digest, got {image!r}: "
            f"Ray refuses workers of another version"
        )
    entrypoint = shlex.join(["python", "-m", "ungan_dist", "run", recipe, *options])
    if secrets := find_secrets(entrypoint):
        raise ConfigError(f"the command contains {', '.join(secrets)}: put it into the Secret ungan-data")

    document = yaml.safe_load(TEMPLATE.read_text())
    document["metadata"]["name"] = _kubernetes_name(f"ungan-{config.execution.run_name}")
    document["spec"]["entrypoint"] = entrypoint
    cluster = document["spec"]["rayClusterSpec"]
    cluster["rayVersion"] = ray_version
    _resize_worker_group(cluster["workerGroupSpecs"][-1], gpus=gpus, gpus_per_node=gpus_per_node)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        pod["containers"][0]["image"] = image
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                volume["persistentVolumeClaim"]["claimName"] = claim
    text = _HEADER.format(recipe=recipe) + yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120)
    if secrets := find_secrets(text):  # in the name of the image or of the claim
        raise ConfigError(f"the manifest would contain {', '.join(secrets)}: name the image and the claim without it")
    if not _is_claim_name(claim):
        raise ConfigError(
            f"--claim must name a PersistentVolumeClaim, in lower-case letters, digits, - and ., got {claim!r}: "
            "kubectl get pvc lists those that you have"
        )
    return text


def _resize_worker_group(group: dict[str, Any], *, gpus: int, gpus_per_node: int) -> None:
    """Set the size and resources of the GPU group; without GPUs it becomes a group of one CPU pod."""
    pod = group["template"]["spec"]
    if gpus:
        group["maxReplicas"] = gpus // gpus_per_node
        # a worker and its share of the data need about six cores and 32 GiB per GPU
        limits = {"cpu": str(6 * gpus_per_node), "memory": f"{32 * gpus_per_node}Gi", "nvidia.com/gpu": gpus_per_node}
    else:
        group.update(groupName="cpu", maxReplicas=1)
        del pod["tolerations"]
        limits = {"cpu": str(CPU_WORKERS), "memory": "32Gi"}
    pod["containers"][0]["resources"] = {"requests": limits, "limits": limits}


def _is_claim_name(text: str) -> bool:
    """Return whether Kubernetes accepts the name: a DNS subdomain by RFC 1123."""
    label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    return len(text) <= 253 and re.fullmatch(rf"{label}(\.{label})*", text) is not None


def _kubernetes_name(text: str) -> str:
    cleaned = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())
    return cleaned[:MAX_NAME_LENGTH].strip("-")
