"""``ungan-dist manifest``: a recipe as a manifest for a cluster."""

from __future__ import annotations

import argparse

from ungan_dist.commands.options import recipe_config
from ungan_dist.errors import ConfigError

USAGE = """\
usage: ungan-dist manifest kuberay RECIPE --gpus N --image NAME:TAG [OPTIONS]

Prints a KubeRay RayJob that runs the recipe on a cluster of its own; checked before it is printed. Apply it with
kubectl apply -f - .

  --gpus N              GPUs in all, one a worker; 0: CPUs alone
  --image NAME:TAG      built from cluster/manifests/image/Dockerfile; the tag names Ray's version
  --gpus-per-node N     GPUs of one pod (default 1)
  --claim NAME          the volume claim, ReadWriteMany, that all pods mount as /results (default ungan-results)
  --output PLACE        where runs go (default /results)
  any option of `ungan-dist run RECIPE`, for example --num-seeds 3
"""


def main(arguments: list[str]) -> int:
    """Prints a manifest."""
    if not arguments or arguments[0] in ("-h", "--help") or arguments[1:2] in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    if arguments[0] != "kuberay":
        raise ConfigError(f"unknown kind of manifest {arguments[0]!r}; known: kuberay")
    recipe, *rest = arguments[1:] or [""]
    own, options = _own_options(rest)
    # refused here if it would be refused on the cluster
    config = recipe_config([recipe, *options], command="manifest kuberay")

    from ungan_dist.cluster.manifest import kuberay_job

    print(
        kuberay_job(
            recipe=recipe,
            options=options,
            gpus=own.gpus,
            gpus_per_node=own.gpus_per_node,
            image=own.image,
            claim=own.claim,
            run_name=config.execution.run_name or recipe,
            output=own.output,
            read_command=lambda words: recipe_config(words, command="run"),
        ),
        end="",
    )
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        raise ConfigError(f"{message} (see ungan-dist manifest --help)")


def _own_options(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and those that belong to ``run``."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--gpus-per-node", type=int, default=1)
    parser.add_argument("--claim", default="ungan-results")
    parser.add_argument("--output", default="/results")
    return parser.parse_known_args(words)
