"""On hosts with a network of their own: a job that another host submits, and a training by processes of two hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host_cluster import DRIVER, HEAD, HostCluster

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCluster]:
    with HostCluster(tmp_path_factory.mktemp("hosts"), serves_jobs=True) as started:
        yield started


@pytest.fixture(scope="module")
def local(cluster: HostCluster) -> dict[str, bytes]:
    """Results of one machine, without Ray."""
    cluster.network[DRIVER].run(_on_one_machine(cluster, "local", "--execution.num-processes 2"), timeout=300)
    return cluster.list_results("local")


def _on_one_machine(cluster: HostCluster, output: str, options: str) -> str:
    return cluster.command(output).replace(f"--cluster {cluster.address}", options)


def test_a_job_of_another_host_gives_the_bits_of_one_machine(cluster: HostCluster, local: dict[str, bytes]) -> None:
    driver = cluster.network[DRIVER]
    address = f"http://{cluster.network[HEAD].address}:8265"
    run = _on_one_machine(cluster, "job", f"--address {address}").replace("ungan-dist run", "ungan-dist submit", 1)
    submitted = driver.run(run, RAY_AUTH_MODE="token")
    job = submitted.stdout.split()[1]  # "job ID"
    followed = driver.run(
        f"ungan-dist status {job} --address {address} --follow", timeout=300, check=False, RAY_AUTH_MODE="token"
    )
    assert followed.returncode == 0, submitted.stdout + followed.stdout + followed.stderr
    assert cluster.list_results("job") == local


def test_processes_of_two_hosts_train_the_bits_of_one_machine(cluster: HostCluster) -> None:
    """Two processes exchange gradients by gloo, between hosts as on one."""
    driver, options = cluster.network[DRIVER], "--train.num-workers 2"
    driver.run(f"{cluster.command('two-hosts')} {options}", timeout=400)
    two = _on_one_machine(cluster, "one-host", "--cluster auto")
    driver.run(f"ray stop --force > /dev/null; {two} {options}", timeout=400, RAY_ADDRESS="local")
    found = cluster.list_results("two-hosts")
    assert found == cluster.list_results("one-host")
    assert [name for name in found if name.startswith("shadows/")]
    cluster.start_ray(DRIVER)
