"""Manifests filled in for a recipe, checked by our own rules before anybody sees them."""

from __future__ import annotations

import shlex
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from ungan_dist.cluster.manifest_rules import ReadCommand, gpus_of, problems
from ungan_dist.errors import ConfigError

TEMPLATE = Path(__file__).parent / "manifests" / "kuberay" / "rayjob-audit.yaml"


def ray_version() -> str:
    """Ray's version here, which the cluster's must be."""
    return metadata.version("ray")


def kuberay_job(
    *,
    recipe: str,
    options: list[str],
    gpus: int,
    gpus_per_node: int,
    image: str,
    claim: str,
    run_name: str,
    output: str,
    read_command: ReadCommand,
) -> str:
    """A RayJob that runs a recipe on a cluster of its own, as YAML.

    Args:
        recipe: its name.
        options: of ``ungan-dist run``, as on the command line.
        gpus: in all, one a worker; 0: CPUs alone.
        gpus_per_node: of one pod; divides ``gpus``.
        image: with a tag or a digest.
        claim: the PersistentVolumeClaim that every pod mounts under /results.
        run_name: of the run folder, so that a retry finds it again, and of the job.
        output: where runs go.
        read_command: the command line's own reading of the entrypoint.

    Raises:
        ConfigError: what was asked cannot be a good manifest; the message lists why.
    """
    if gpus < 0 or gpus_per_node < 1 or gpus % gpus_per_node:
        raise ConfigError(f"--gpus must be a multiple of --gpus-per-node, got {gpus} and {gpus_per_node}")
    document = yaml.safe_load(TEMPLATE.read_text())
    document["metadata"]["name"] = _kubernetes_name(f"ungan-{run_name}")
    document["spec"]["entrypoint"] = _entrypoint(recipe, options, gpus=gpus, run_name=run_name, output=output)
    cluster = document["spec"]["rayClusterSpec"]
    cluster["rayVersion"] = ray_version()
    cluster["workerGroupSpecs"] = _groups(cluster["workerGroupSpecs"], gpus=gpus, gpus_per_node=gpus_per_node)
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        pod["containers"][0]["image"] = image
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                volume["persistentVolumeClaim"]["claimName"] = claim
    found = problems(document, ray_version=ray_version(), read_command=read_command)
    if found:
        raise ConfigError("this would be no good manifest:\n  " + "\n  ".join(found))
    return _HEADER.format(recipe=recipe) + yaml.dump(document, Dumper=_Plain, sort_keys=False, width=120)


_HEADER = """\
# {recipe} on KubeRay, written by `ungan-dist manifest kuberay`: kubectl apply -f - . A retry continues what the claim
# holds. Apply kuberay/network-policy.yaml beside it; a token opens the cluster, it does not encrypt.
"""


class _Plain(yaml.SafeDumper):
    """Writes what appears twice twice: anchors are for people who edit."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _entrypoint(recipe: str, options: list[str], *, gpus: int, run_name: str, output: str) -> str:
    fleet = ["--fleet.num-workers", str(gpus or 8), "--fleet.gpus-per-worker", "1" if gpus else "0"]
    place = ["--output", output, "--execution.run-name", run_name, "--cluster", "auto"]
    # the last of two wins: an option may change the fleet, never the place
    words = ["python", "-m", "ungan_dist", "run", recipe, *fleet, "--fleet.autoscaling", *options, *place]
    return shlex.join(words)


def _groups(groups: list[dict[str, Any]], *, gpus: int, gpus_per_node: int) -> list[dict[str, Any]]:
    """The driver's group as it is; the GPU group with as many pods, or, without GPUs, one of CPUs in its place."""
    workers = next(group for group in groups if gpus_of(group))
    pod = workers["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    for side in ("requests", "limits"):
        if gpus:
            # six cores and 32 GiB a GPU: one worker's process and its share of the data
            resources[side] = {
                "cpu": str(6 * gpus_per_node),
                "memory": f"{32 * gpus_per_node}Gi",
                "nvidia.com/gpu": gpus_per_node,
            }
        else:
            resources[side] = {"cpu": "8", "memory": "32Gi"}
    if gpus:
        workers["maxReplicas"] = gpus // gpus_per_node
    else:
        workers.update(groupName="cpu", maxReplicas=1)
        del pod["tolerations"]
    return groups


def _kubernetes_name(text: str) -> str:
    cleaned = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())
    return cleaned[:47].strip("-")
