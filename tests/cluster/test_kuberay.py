"""The KubeRay manifests: the operator's own schema made strict, our rules, and mutants that both must catch."""

from __future__ import annotations

import copy
import functools
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ungan_dist.cluster.manifest import kuberay_job
from ungan_dist.cluster.manifest_rules import problems
from ungan_dist.commands.manifest import main
from ungan_dist.commands.options import recipe_config
from ungan_dist.errors import ConfigError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster/manifests/kuberay"
SCHEMAS = ROOT / "../shared/kuberay"
RAY = metadata.version("ray")
IMAGE = f"registry.example.com/team/ungan-dist:{RAY}"

Document = dict[str, Any]


def load(name: str) -> Document:
    return yaml.safe_load((FOLDER / name).read_text())


def read_command(words: list[str]) -> Any:
    return recipe_config(words, command="run")


def wrong(document: Document) -> list[str]:
    return problems(document, ray_version=RAY, read_command=read_command)


def rendered(*options: str, gpus: int = 16, gpus_per_node: int = 1, image: str = IMAGE) -> Document:
    text = kuberay_job(
        recipe="paper",
        options=list(options),
        gpus=gpus,
        gpus_per_node=gpus_per_node,
        image=image,
        claim="ungan-results",
        run_name="paper",
        output="/results",
        read_command=read_command,
    )
    return yaml.safe_load(text)


DOCUMENTS = {
    "audit": lambda: load("rayjob-audit.yaml"),
    "dev": lambda: load("raycluster-dev.yaml"),
    "rendered": rendered,
    "rendered, 8 a node": lambda: rendered(gpus_per_node=8),
    "rendered without GPUs": lambda: rendered(gpus=0),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_our_rules_find_nothing(name: str) -> None:
    assert wrong(DOCUMENTS[name]()) == []


@functools.cache
def schema(kind: str) -> Document:
    """The operator's schema of a kind, refusing every field that it does not name."""
    path = SCHEMAS / {"RayJob": "rayjobs.yaml", "RayCluster": "rayclusters.yaml"}[kind]
    if not path.is_file():
        pytest.skip(f"the operator's schemas are not at {SCHEMAS}")
    versions = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    (v1,) = (version for version in versions if version["name"] == "v1")
    return strict(v1["schema"]["openAPIV3Schema"])


def strict(node: Any) -> Any:
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: strict(value) for key, value in node.items()}
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("pattern", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def schema_errors(document: Document) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(schema(document["kind"])).iter_errors(document)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_operators_strict_schema_finds_nothing(name: str) -> None:
    assert schema_errors(DOCUMENTS[name]()) == []


def put(path: str, value: Any) -> Callable[[Document], None]:
    """Sets a field, or removes it with ``...``; numbers are places in a list."""

    def mutate(document: Document) -> None:
        *parents, last = [int(word) if word.isdigit() else word for word in path.split("/")]
        owner: Any = document
        for word in parents:
            owner = owner[word]
        if value is ...:
            del owner[last]
        else:
            owner[last] = value

    return mutate


CLUSTER = "spec/rayClusterSpec"
HEAD = f"{CLUSTER}/headGroupSpec"
HEAD_POD = f"{HEAD}/template/spec"
GPU = f"{CLUSTER}/workerGroupSpecs/1"
GPU_POD = f"{GPU}/template/spec"
RUN = "python -m ungan_dist run paper --output /results --cluster auto"

MISSPELT = {
    "ttl": ("spec/ttlSecondsAfterFinish", 600, "spec.ttlSecondsAfterFinish"),
    "auth": (f"{CLUSTER}/authOption", {"mode": "token"}, "rayClusterSpec.authOption"),
    "head": (f"{HEAD}/rayStartParam", {}, "headGroupSpec.rayStartParam"),
    "group": (f"{GPU}/maxReplica", 8, "maxReplica"),
    "pod": (f"{GPU_POD}/toleration", [], "toleration"),
    "container": (f"{GPU_POD}/containers/0/volumeMount", [], "volumeMount"),
    "autoscaler": (f"{CLUSTER}/autoscalerOptions/idleTimeoutSecond", 5, "idleTimeoutSecond"),
}


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_key_is_caught_by_our_rules(name: str) -> None:
    path, value, word = MISSPELT[name]
    document = load("rayjob-audit.yaml")
    put(path, value)(document)
    assert any(word in sentence and "misspelt" in sentence for sentence in wrong(document))


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_key_is_caught_by_the_strict_schema(name: str) -> None:
    path, value, _ = MISSPELT[name]
    document = load("rayjob-audit.yaml")
    put(path, value)(document)
    assert any(path.rpartition("/")[2] in message for message in schema_errors(document))


MUTANTS = {
    "TTL without shutdown": (put("spec/shutdownAfterJobFinishes", False), "ttlSecondsAfterFinished needs"),
    "negative TTL": (put("spec/ttlSecondsAfterFinished", -1), "must not be negative"),
    "no deadline": (put("spec/activeDeadlineSeconds", ...), "activeDeadlineSeconds"),
    "negative retries": (put("spec/backoffLimit", -1), "backoffLimit"),
    "another submission mode": (put("spec/submissionMode", "K8sJobMode"), "SidecarMode"),
    "a head that restarts": (put(f"{HEAD_POD}/restartPolicy", "Always"), "restartPolicy must be Never"),
    "a worker that restarts": (put(f"{GPU_POD}/restartPolicy", "Always"), "restartPolicy must be Never"),
    "min > max": (put(f"{GPU}/minReplicas", 9), "minReplicas ≤ replicas ≤ maxReplicas"),
    "replicas > max": (put(f"{GPU}/replicas", 9), "minReplicas ≤ replicas ≤ maxReplicas"),
    "GPUs held for ever": (
        lambda d: [put(f"{GPU}/{key}", 1)(d) for key in ("minReplicas", "replicas")],
        "GPUs are held",
    ),
    "nothing scales": (put(f"{CLUSTER}/enableInTreeAutoscaling", False), "nothing scales"),
    "another Ray": (put(f"{CLUSTER}/rayVersion", "2.59.0"), f"must be the locked {RAY}"),
    "another image": (put(f"{GPU_POD}/containers/0/image", "ungan-dist:2.59.0"), "must be tagged with Ray's version"),
    "a floating image": (
        put(f"{GPU_POD}/containers/0/image", "ungan-dist:latest"),
        "must be tagged with Ray's version",
    ),
    "an image without a tag": (put(f"{HEAD_POD}/containers/0/image", "reg:5000/ungan-dist"), "must be tagged"),
    "no authentication": (put(f"{CLUSTER}/authOptions", ...), "authOptions.mode must be token"),
    "authentication off": (put(f"{CLUSTER}/authOptions/mode", "disabled"), "authOptions.mode must be token"),
    "authentication off by variable": (
        put(f"{GPU_POD}/containers/0/env/0", {"name": "RAY_AUTH_MODE", "value": "disabled"}),
        "RAY_AUTH_MODE must be token",
    ),
    "a token in the manifest": (
        put(f"{GPU_POD}/containers/0/env/0", {"name": "RAY_AUTH_TOKEN", "value": "abc"}),
        "RAY_AUTH_TOKEN holds a literal value",
    ),
    "a secret in the runtime environment": (
        put("spec/runtimeEnvYAML", "env_vars: {AWS_SECRET_ACCESS_KEY: abc}"),
        "spec.runtimeEnvYAML.env_vars.AWS_SECRET_ACCESS_KEY",
    ),
    "a password in the command": (
        put("spec/entrypoint", f"{RUN} --source.path https://user:word@host/data"),
        "spec.entrypoint holds a URL with a password",
    ),
    "work on the head": (put(f"{HEAD}/rayStartParams", {}), "num-cpus must be"),
    "no place for the driver": (
        lambda d: put(f"{CLUSTER}/workerGroupSpecs/0", ...)(d),
        "the driver would wait for ever",
    ),
    "no toleration": (put(f"{GPU_POD}/tolerations", []), "toleration"),
    "a service account for workers": (put(f"{GPU_POD}/automountServiceAccountToken", ...), "must be false"),
    "root": (put(f"{GPU_POD}/securityContext", {"runAsNonRoot": False}), "runAsNonRoot"),
    "rising rights": (put(f"{GPU_POD}/containers/0/securityContext", {}), "allowPrivilegeEscalation"),
    "requests below limits": (put(f"{GPU_POD}/containers/0/resources/requests/cpu", "1"), "requests and limits of cpu"),
    "no memory limit": (put(f"{HEAD_POD}/containers/0/resources", {}), "limits of cpu and memory are needed"),
    "small shared memory": (put(f"{GPU_POD}/volumes/1/emptyDir", {}), "/dev/shm must be"),
    "a mount of nothing": (put(f"{GPU_POD}/volumes/0/name", "result"), "is no volume of the pod"),
    "a wrong container name": (put(f"{HEAD_POD}/containers/0/name", "head"), "must be named ray-head"),
    "two groups of one name": (put(f"{GPU}/groupName", "driver"), "groupName must differ"),
    "a name that is too long": (put("metadata/name", "a" * 48), "at most 47"),
    "a name in capitals": (put("metadata/name", "Audit"), "lower-case"),
    "another command": (put("spec/entrypoint", "sleep 1"), "must begin with python -m ungan_dist run"),
    "an unknown recipe": (put("spec/entrypoint", RUN.replace("paper", "papers")), "unknown recipe 'papers'"),
    "no fleet": (put("spec/entrypoint", RUN.replace(" --cluster auto", "")), "--cluster must be auto"),
    "more GPUs than can be had": (
        put("spec/entrypoint", f"{RUN} --fleet.num-workers 9 --fleet.gpus-per-worker 1"),
        "asks for 9 GPUs, the worker groups grow to 8",
    ),
    "results inside a pod": (put("spec/entrypoint", RUN.replace("/results", "/tmp/runs")), "lies on no volume"),
    "results in a relative folder": (put("spec/entrypoint", RUN.replace("/results", "runs")), "must be absolute"),
    "another kind": (put("kind", "Pod"), "must be ray.io/v1"),
    "no head": (put(HEAD, ...), "not of the expected shape"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught_by_our_rules(name: str) -> None:
    mutate, words = MUTANTS[name]
    document = load("rayjob-audit.yaml")
    before = copy.deepcopy(document)
    mutate(document)
    assert document != before
    found = wrong(document)
    assert any(words in sentence for sentence in found), found


@pytest.mark.parametrize(
    "name", ["authentication off", "a worker that restarts", "min > max", "another Ray", "a token in the manifest"]
)
def test_a_mutant_of_the_development_cluster_is_caught(name: str) -> None:
    mutate, words = MUTANTS[name]
    document = {"spec": {"rayClusterSpec": load("raycluster-dev.yaml")["spec"]}}
    mutate(document)
    whole = {**load("raycluster-dev.yaml"), "spec": document["spec"]["rayClusterSpec"]}
    assert any(words in sentence for sentence in wrong(whole))


def test_a_rendered_manifest_is_the_recipes(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["kuberay", "paper", "--gpus", "16", "--gpus-per-node", "4", "--image", IMAGE, "--num-seeds", "3"]
    assert main([*arguments, "--claim", "team-results"]) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert wrong(document) == []
    config = read_command(shlex.split(document["spec"]["entrypoint"])[4:])
    assert (config.name, config.num_seeds, config.output, config.cluster) == ("paper", 3, "/results", "auto")
    assert (config.fleet.num_workers, config.fleet.gpus_per_worker, config.fleet.autoscaling) == (16, 1, True)
    gpu = document["spec"]["rayClusterSpec"]["workerGroupSpecs"][1]
    assert (gpu["minReplicas"], gpu["maxReplicas"]) == (0, 4)
    container = gpu["template"]["spec"]["containers"][0]
    assert container["image"] == IMAGE
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert gpu["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "team-results"


def test_what_cannot_be_rendered_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="multiple of --gpus-per-node, got 6 and 4"):
        rendered(gpus=6, gpus_per_node=4)
    with pytest.raises(ConfigError, match="must be tagged with Ray's version"):
        rendered(image="ungan-dist:latest")
    with pytest.raises(ConfigError, match="asks for 64 GPUs, the worker groups grow to 16"):
        rendered("--fleet.num-workers", "64")
    with pytest.raises(ConfigError, match="unknown kind of manifest 'helm'"):
        main(["helm", "paper"])
    with pytest.raises(ConfigError, match="unknown recipe 'papers'"):
        main(["kuberay", "papers", "--gpus", "1", "--image", IMAGE])
    with pytest.raises(ConfigError, match="--image"):
        main(["kuberay", "paper", "--gpus", "1"])


def test_the_command_line_prints_it() -> None:
    command = [sys.executable, "-m", "ungan_dist", "manifest", "kuberay", "paper", "--gpus", "2", "--image", IMAGE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["kind"] == "RayJob"
    done = subprocess.run([*command, "--penalty", "x"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2


def test_the_network_policy_selects_the_pods_of_both_manifests() -> None:
    policy = load("network-policy.yaml")
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    for name in ("rayjob-audit.yaml", "raycluster-dev.yaml"):
        spec = load(name)["spec"]
        cluster = spec.get("rayClusterSpec", spec)
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            assert selected <= group["template"]["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert all(rule.get("from") for rule in policy["spec"]["ingress"])
