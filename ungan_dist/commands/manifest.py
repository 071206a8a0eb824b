"""``ungan-dist manifest``: print a Kubernetes manifest for a recipe."""

from __future__ import annotations

from ungan_dist.commands.options import recipe_config
from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError

USAGE = """\
usage: ungan-dist manifest kuberay RECIPE --gpus N --image NAME:TAG [OPTIONS]

Print a KubeRay RayJob that runs the recipe on a cluster of its own. Pipe it to kubectl apply -f -

  --gpus N              GPUs in total, one per worker; 0 uses CPUs alone
  --image NAME:TAG      image built from cluster/manifests/image/Dockerfile; the tag contains Ray's version
  --gpus-per-node N     GPUs per pod (default 1)
  --claim NAME          ReadWriteMany volume claim that all pods mount as /results (default ungan-results)
  --output PLACE        folder for runs, under /results, or object storage (default /results)
  any option of `ungan-dist run RECIPE` but --cluster, for example --num-seeds 3. Paths are those in the pods, such as
  --source.path /results/cifar10
"""


def main(arguments: list[str]) -> int:
    """Print a manifest."""
    if arguments[:1] != ["kuberay"]:
        given = f"unknown kind of manifest {arguments[0]!r}" if arguments else "name a kind of manifest first"
        raise ConfigError(f"{given}; known: kuberay (see ungan-dist manifest --help)")
    recipe, *words = arguments[1:] or [""]
    parser = Parser("manifest")
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("--image", required=True)
    parser.add_argument("--gpus-per-node", type=int, default=1)
    parser.add_argument("--claim", default="ungan-results")
    parser.add_argument("--output", default="/results")
    parser.add_argument("--cluster", default="auto")
    own, options = parser.parse_known_args(words)
    if own.cluster != "auto":
        raise ConfigError(
            f"--cluster {own.cluster} cannot be: a RayJob runs on a cluster of its own. Leave --cluster out, or use "
            f"ungan-dist run {recipe} --cluster {own.cluster}"
        )

    from ungan_dist.cluster.manifest import complete_options, render_kuberay_job

    sizes = {"gpus": own.gpus, "gpus_per_node": own.gpus_per_node}
    options = complete_options(recipe, options, output=own.output, **sizes)
    config = recipe_config([recipe, *options], command="manifest kuberay")
    print(render_kuberay_job(config, recipe, options, image=own.image, claim=own.claim, **sizes), end="")
    return 0
