"""The doctor on a cluster of real nodes with real faults."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ungan_dist.runs.upkeep.doctor import Finding

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]


def findings(address: str, output: Path, **options: Any) -> dict[str, Finding]:
    from ungan_dist.cluster.doctor import check_cluster

    found = {finding.name: finding for finding in check_cluster(address, output, **options)}
    assert all(bool(finding.remedy) == (finding.state != "ok") for finding in found.values())
    return found


def states(found: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.state for name, finding in found.items()}


GOOD = dict.fromkeys(
    (
        *("token", "cluster", "authentication", "nodes", "nodes' tokens", "nodes' folder", "nodes' shared memory"),
        *("nodes' versions", "encryption"),
    ),
    "ok",
)


def test_a_good_cluster(ray_cluster: Any, tmp_path: Path) -> None:
    found = findings(ray_cluster.address, tmp_path / "new" / "runs")
    assert states(found) == GOOD, found
    assert "3 nodes" in found["cluster"].detail
    assert not list(tmp_path.iterdir())


def test_nodes_with_another_version(ray_cluster: Any, tmp_path: Path) -> None:
    """Processes of these nodes find metadata of another torch."""
    other = tmp_path / "other"
    (other / "torch-1.2.3.dist-info").mkdir(parents=True)
    (other / "torch-1.2.3.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.2.3\n")
    path = os.pathsep.join([str(other), os.environ["PYTHONPATH"]])
    found = findings(ray_cluster.address, tmp_path, runtime_env={"env_vars": {"PYTHONPATH": path}})
    assert states(found) == GOOD | {"nodes' versions": "failure"}, found
    assert found["nodes' versions"].detail.count("torch 1.2.3") == 3


def test_nodes_with_little_shared_memory(ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ungan_dist.cluster import doctor

    monkeypatch.setattr(doctor, "MIN_SHARED_MEMORY", 1 << 60)
    found = findings(ray_cluster.address, tmp_path)
    assert states(found) == GOOD | {"nodes' shared memory": "warning"}, found
    assert "the driver: " in found["nodes' shared memory"].detail


def test_nodes_whose_token_others_can_read(ray_cluster: Any, tmp_path: Path) -> None:
    """Processes of these nodes read the token from a file of this user."""
    file = tmp_path / "auth_token"
    file.write_text(os.environ["RAY_AUTH_TOKEN"])
    file.chmod(0o644)
    variables = {"RAY_AUTH_TOKEN": "", "RAY_AUTH_TOKEN_PATH": str(file)}
    found = findings(ray_cluster.address, tmp_path / "runs", runtime_env={"env_vars": variables})
    assert states(found) == GOOD | {"nodes' tokens": "failure"}, found
    assert found["nodes' tokens"].detail.count("has mode 0644") == 3


_HALF_INSTALLED = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("ungan_dist"):
            raise ImportError("half installed")
sys.meta_path.insert(0, Refuse())
"""


def test_a_node_that_cannot_run_the_package(ray_cluster: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(_HALF_INSTALLED)
    found = findings(ray_cluster.address, tmp_path, runtime_env={"env_vars": {"PYTHONPATH": str(broken)}})
    assert states(found) == GOOD | {"nodes": "failure"}, found
    assert "half installed" in found["nodes"].detail


def test_a_folder_that_the_driver_cannot_write(ray_cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    found = findings(ray_cluster.address, tmp_path / "file")
    assert states(found) == {"token": "ok", "cluster": "ok", "nodes' folder": "failure"}


_PRINT = """
import sys
from pathlib import Path
from ungan_dist.cluster.doctor import check_cluster
for finding in check_cluster(sys.argv[1], Path(sys.argv[2])):
    print(finding)
"""


def test_a_folder_that_only_the_driver_sees(ray_cluster: Any, tmp_path: Path) -> None:
    """Return the command in its own mount namespace, where a file system covers the folder."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("cannot make a namespace")
    script = f'mount -t tmpfs tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$@"'
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, "bash", _PRINT, ray_cluster.address, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=100,
    )
    lines = {line[9:].partition(":")[0]: line for line in done.stdout.splitlines()}
    assert {name: line.split()[0] for name, line in lines.items()} == GOOD | {"nodes' folder": "failure"}, done
    assert lines["nodes' folder"].count("No such file") == 3


def test_an_address_without_a_server(ray_environment: dict[str, str], tmp_path: Path) -> None:
    """The check runs in a process that is not yet connected."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    done = subprocess.run(
        [sys.executable, "-c", _PRINT, f"127.0.0.1:{port}", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    token, cluster = done.stdout.splitlines()
    assert token == "ok       token: in the variable RAY_AUTH_TOKEN"
    assert cluster.startswith("failure  cluster: no Ray cluster at "), done


_OPEN_CLUSTER = """
import sys
from pathlib import Path
import ray
host, output = sys.argv[1:]
ray.init(address="local", num_cpus=1, include_dashboard=True, dashboard_host=host, _node_ip_address=host,
         log_to_driver=False, logging_level="ERROR")
from ungan_dist.cluster.doctor import check_cluster
for finding in check_cluster("auto", Path(output)):
    print(finding)
from ungan_dist.cluster.doctor import collect_reports, check_authentication
print("-------- without a dashboard:", check_authentication([], collect_reports(ray.nodes(), Path(output))))
"""


@pytest.mark.parametrize(("mode", "state", "unseen"), [("disabled", "failure", "warning"), ("token", "ok", "ok")])
def test_a_cluster_open_to_strangers(
    ray_environment: dict[str, str], tmp_path: Path, mode: str, state: str, unseen: str
) -> None:
    """Run in an isolated network: a head serves its dashboard on the network's address."""
    isolated = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if not shutil.which("ip") or subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("cannot make a network namespace")
    network = "mount -t tmpfs tmpfs /tmp/ray && ip link set lo up && ip address add 203.0.113.1/32 dev lo"
    Path("/tmp/ray").mkdir(exist_ok=True)
    host, output = "203.0.113.1", tmp_path / "runs"
    script = f'{network} && "{sys.executable}" -c "$@"; exit $?'
    done = subprocess.run(
        [*isolated, "bash", "-c", script, "bash", _OPEN_CLUSTER, host, str(output)],
        env={**os.environ, "RAY_AUTH_MODE": mode},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=110,
    )
    lines = {line[9:].partition(":")[0]: line for line in done.stdout.splitlines()}
    without = lines.pop("without a dashboard", "")
    assert {name: line.split()[0] for name, line in lines.items()} == GOOD | {"authentication": state}, done
    assert f": {unseen} " in without
    if state == "failure":
        assert f"http://{host}:" in lines["authentication"]
    if state == "ok":
        assert "refuses strangers" in lines["authentication"]
