"""The KubeRay manifests: the operator's own schemas made strict, our rules, and the rendered manifest."""

from __future__ import annotations

import functools
import shlex
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from in_process import run_command

from ungan_dist.cluster.manifest import MAX_NAME_LENGTH
from ungan_dist.commands.options import recipe_config

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster/manifests/kuberay"
SCHEMAS = ROOT / "../shared/kuberay"
RAY = metadata.version("ray")
IMAGE = f"registry.example.com/team/ungan-dist:{RAY}"

Document = dict[str, Any]


def load(name: str) -> Document:
    return yaml.safe_load((FOLDER / name).read_text())


def render(*options: str, gpus: int = 16, image: str = IMAGE) -> Document:
    done = run_command("manifest", "kuberay", "paper", "--gpus", str(gpus), "--image", image, *options)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


DOCUMENTS = {
    "audit": lambda: load("rayjob-audit.yaml"),
    "dev": lambda: load("raycluster-dev.yaml"),
    "rendered": render,
    "rendered, 8 per node": lambda: render("--gpus-per-node", "8"),
    "rendered without GPUs": lambda: render(gpus=0),
}


def get_cluster(document: Document) -> Document:
    return document["spec"] if document["kind"] == "RayCluster" else document["spec"]["rayClusterSpec"]


def count_gpus(group: Document) -> int:
    return group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu", 0)


@functools.cache
def schema(kind: str) -> Document:
    """Return the operator's schema of a kind, made strict: fields that it does not name are errors."""
    path = SCHEMAS / {"RayJob": "rayjobs.yaml", "RayCluster": "rayclusters.yaml"}[kind]
    if not path.is_file():
        pytest.skip(f"the operator's schemas are not at {SCHEMAS}")
    versions = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    (v1,) = (version for version in versions if version["name"] == "v1")
    return make_strict(v1["schema"]["openAPIV3Schema"])


def make_strict(node: Any) -> Any:
    if isinstance(node, list):
        return [make_strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    made = {key: make_strict(value) for key, value in node.items()}
    if made.pop("x-kubernetes-int-or-string", False):
        made.pop("pattern", None)
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(made.get("properties"), dict) and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def schema_errors(document: Document) -> list[str]:
    return [error.message for error in jsonschema.Draft7Validator(schema(document["kind"])).iter_errors(document)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_manifest_fits_the_operators_strict_schema(name: str) -> None:
    assert schema_errors(DOCUMENTS[name]()) == []


CLUSTER = "spec/rayClusterSpec"
GPU_GROUP = f"{CLUSTER}/workerGroupSpecs/1"


@pytest.mark.parametrize(
    "path",
    [
        "spec/ttlSecondsAfterFinish",
        f"{CLUSTER}/authOption",
        f"{CLUSTER}/headGroupSpec/rayStartParam",
        f"{GPU_GROUP}/maxReplica",
        f"{GPU_GROUP}/template/spec/toleration",
        f"{GPU_GROUP}/template/spec/containers/0/volumeMount",
        f"{CLUSTER}/autoscalerOptions/idleTimeoutSecond",
    ],
)
def test_the_strict_schema_finds_a_misspelt_key(path: str) -> None:
    document: Any = load("rayjob-audit.yaml")
    *parents, last = (int(word) if word.isdigit() else word for word in path.split("/"))
    owner = document
    for word in parents:
        owner = owner[word]
    owner[last] = {}
    assert any(str(last) in message for message in schema_errors(document))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_cluster_follows_our_rules(name: str) -> None:
    document = DOCUMENTS[name]()
    assert len(document["metadata"]["name"]) <= MAX_NAME_LENGTH
    cluster = get_cluster(document)
    assert cluster["rayVersion"] == RAY
    assert cluster["authOptions"] == {"mode": "token"}
    # work on the head would take the cluster down with it
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    groups = cluster["workerGroupSpecs"]
    assert len({group["groupName"] for group in groups}) == len(groups)
    for group in groups:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["minReplicas"] == group["maxReplicas"] or cluster["enableInTreeAutoscaling"]
        pod = group["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        if count_gpus(group):
            assert group["minReplicas"] == 0, "GPUs are held only while there is work for them"
            assert [one["key"] for one in pod["tolerations"]] == ["nvidia.com/gpu"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_pod_follows_our_rules(name: str) -> None:
    cluster = get_cluster(DOCUMENTS[name]())
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["name"] == ("ray-worker" if "groupName" in group else "ray-head")
        assert container["image"].endswith(f":{RAY}")
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & {variable["name"] for variable in container["env"]}
        # Ray plans with the limits; without them it would use the whole node
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        # Kubernetes' default of 64 MiB is too small for Ray's objects
        assert mounts["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        assert "persistentVolumeClaim" in mounts["/results"]


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "dev"])
def test_a_job_follows_our_rules(name: str) -> None:
    spec = DOCUMENTS[name]()["spec"]
    assert spec["shutdownAfterJobFinishes"] is True, "the cluster would stay, and cost, after the audit"
    assert spec["ttlSecondsAfterFinished"] >= 0
    assert spec["backoffLimit"] >= 0
    assert spec["activeDeadlineSeconds"] > 0, "a job that hangs would keep its GPUs for ever"
    assert spec["submissionMode"] == "SidecarMode"
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    # the head has no CPUs, so the driver needs a group that is always there
    assert spec["entrypointNumCpus"] == 1
    assert any(group["minReplicas"] and not count_gpus(group) for group in groups)
    words = shlex.split(spec["entrypoint"])
    assert words[:4] == ["python", "-m", "ungan_dist", "run"]
    config = recipe_config(words[4:], command="run")
    assert (config.cluster, config.output) == ("auto", "/results")
    room = sum(count_gpus(group) * group["maxReplicas"] for group in groups)
    assert (config.fleet.num_workers or 0) * (config.fleet.gpus_per_worker or 0) == room


def test_a_rendered_manifest_has_the_users_values() -> None:
    document = render("--gpus-per-node", "4", "--num-seeds", "3", "--claim", "team-results")
    assert document["metadata"]["name"] == "ungan-paper"
    config = recipe_config(shlex.split(document["spec"]["entrypoint"])[4:], command="run")
    assert (config.name, config.num_seeds, config.output, config.cluster) == ("paper", 3, "/results", "auto")
    assert (config.fleet.num_workers, config.fleet.gpus_per_worker, config.fleet.autoscaling) == (16, 1, True)
    assert config.execution.run_name == "paper"
    gpu = get_cluster(document)["workerGroupSpecs"][1]
    assert (gpu["minReplicas"], gpu["maxReplicas"]) == (0, 4)
    container = gpu["template"]["spec"]["containers"][0]
    assert container["image"] == IMAGE
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert gpu["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == "team-results"


def test_a_run_name_becomes_a_valid_kubernetes_name() -> None:
    name = render("--execution.run-name", "My_Run " + 40 * "ü.")["metadata"]["name"]
    assert name == "ungan-my-run"
    name = render("--execution.run-name", "x" * 60)["metadata"]["name"]
    assert name == "ungan-" + "x" * 41


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpus", "6", "--gpus-per-node", "4"], "multiple of --gpus-per-node, got 6 and 4"),
        (["--gpus", "-1"], "--gpus must be 0, for CPUs alone, or more, got -1"),
        (["--gpus-per-node", "0"], "multiple of --gpus-per-node, got 16 and 0"),
        (["--claim", "Bad Name"], "kubectl get pvc"),
        (["--claim", "results-"], "got 'results-'"),
        (["--claim", "a..b"], "got 'a..b'"),
        (["--claim", "a" * 254], "--claim must name a PersistentVolumeClaim"),
        (["--cluster", "local"], "--cluster local cannot be"),
        (["--cluster=10.0.0.1:6379"], "Leave --cluster out"),
        (
            ["--source.path", "cifar10"],
            "--source.path must be an absolute path in the pods, such as one under /results",
        ),
        (["--given.forget", "forget.csv"], "--given.forget must be an absolute path in the pods"),
        (["--image", "ungan-dist:latest"], f"a tag with Ray's version, such as NAME:{RAY}"),
        (["--image", "ungan-dist:2.59.0"], "got 'ungan-dist:2.59.0'"),
        (["--image", "registry:5000/ungan-dist"], "a tag with Ray's version"),
        (["--fleet.num-workers", "64"], "the fleet needs 64 GPUs, but --gpus is 16"),
        (["--output", "/tmp/runs"], "--output must be under /results, or object storage, got '/tmp/runs'"),
        (["--output", "runs"], "got 'runs'"),
        (["--source.path", "https://user:word@host/data"], "the command contains a URL with a password"),
        (["--claim", "ghp_" + 20 * "a"], "the manifest would contain a service token"),
        (["--penalty", "x"], "penalty"),
    ],
)
def test_a_wrong_value_is_refused(arguments: list[str], words: str) -> None:
    done = run_command("manifest", "kuberay", "paper", "--gpus", "16", "--image", IMAGE, *arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert words in done.stderr


def test_a_digest_is_allowed() -> None:
    image = f"ungan-dist@sha256:{'0' * 63}1"
    assert get_cluster(render(image=image))["headGroupSpec"]["template"]["spec"]["containers"][0]["image"] == image


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["helm", "paper"], "unknown kind of manifest 'helm'"),
        (["kuberay", "papers", "--gpus", "1", "--image", IMAGE], "unknown recipe 'papers'"),
        (["kuberay", "paper", "--gpus", "1"], "--image"),
    ],
)
def test_an_incomplete_command_is_refused(arguments: list[str], words: str) -> None:
    done = run_command("manifest", *arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_the_network_policy_selects_the_pods_of_both_manifests() -> None:
    policy = load("network-policy.yaml")
    selected = policy["spec"]["podSelector"]["matchLabels"].items()
    for name in ("rayjob-audit.yaml", "raycluster-dev.yaml"):
        cluster = get_cluster(load(name))
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            assert selected <= group["template"]["metadata"]["labels"].items()
    assert policy["spec"]["policyTypes"] == ["Ingress"]


def test_the_network_policy_admits_the_cluster_the_operator_and_prometheus() -> None:
    policy = load("network-policy.yaml")["spec"]

    def pods(name: str) -> Document:
        return {"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}

    assert policy["ingress"] == [
        {"from": [pods("ungan-dist")]},
        {
            "from": [{"namespaceSelector": {}, **pods("kuberay-operator")}],
            "ports": [{"protocol": "TCP", "port": 8265}],
        },
        {"from": [{"namespaceSelector": {}, **pods("prometheus")}], "ports": [{"protocol": "TCP", "port": 8080}]},
    ]


def test_every_manifest_of_a_cluster_is_checked() -> None:
    kinds = {path.name: yaml.safe_load(path.read_text())["kind"] for path in FOLDER.glob("*.yaml")}
    assert kinds == {
        "rayjob-audit.yaml": "RayJob",
        "raycluster-dev.yaml": "RayCluster",
        "network-policy.yaml": "NetworkPolicy",
        "kustomization.yaml": "Kustomization",
    }
    folders = {path.parent.name for path in FOLDER.parent.rglob("*") if path.is_file()}
    assert folders == {"kuberay", "launcher", "slurm", "image", "monitoring"}
    launched = {path.stem for path in (FOLDER.parent / "launcher").iterdir()}
    assert launched == {"aws", "gcp", "onprem"}, "test_launcher.py checks these"
    batch_files = {path.name for path in (FOLDER.parent / "slurm").iterdir()}
    assert batch_files == {"audit.sbatch", "array.sbatch"}, "test_slurm.py checks these"


def test_a_kustomization_of_a_user_sets_the_registry_of_every_pod(tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed")
    shutil.copytree(FOLDER, tmp_path / "base")
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [base]\nimages:\n  - {name: ungan-dist, newName: registry.example.com/ungan-dist}\n"
    )
    done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, timeout=60, check=True)
    policy, cluster = sorted(yaml.safe_load_all(done.stdout), key=lambda document: document["kind"])
    assert (policy["kind"], cluster["kind"]) == ("NetworkPolicy", "RayCluster")
    assert policy == load("network-policy.yaml")
    expected = load("raycluster-dev.yaml")
    for group in (expected["spec"]["headGroupSpec"], *expected["spec"]["workerGroupSpecs"]):
        group["template"]["spec"]["containers"][0]["image"] = f"registry.example.com/ungan-dist:{RAY}"
    assert cluster == expected
