"""Audits on hosts without a shared disk: output in object storage, also under faults of the storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faulty_audit import run_under
from host_cluster import DRIVER, HostCluster
from stored_audit import ACCESS, STORAGE_FAULTS, StoredCluster

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredCluster]:
    with StoredCluster(tmp_path_factory.mktemp("hosts")) as started:
        yield started


@pytest.fixture(scope="module")
def local(cluster: StoredCluster) -> dict[str, bytes]:
    """Results of one machine, without Ray and storage."""
    run = HostCluster.command(cluster, "local").replace(
        f"--cluster {cluster.address}", "--cluster local --execution.num-processes 2"
    )
    cluster.network[DRIVER].run(run, timeout=300)
    return HostCluster.list_results(cluster, "local")


def test_object_storage_in_place_of_a_shared_disk_changes_no_bit(
    cluster: StoredCluster, local: dict[str, bytes]
) -> None:
    audit = cluster.start_audit("undisturbed")
    assert audit.wait(300) == 0, cluster.log_of("undisturbed").read_text()
    assert cluster.list_results("undisturbed") == local
    assert not (cluster.network.shared / "undisturbed").exists()


def test_processes_of_two_hosts_train_with_storage_alone(cluster: StoredCluster) -> None:
    driver, options = cluster.network[DRIVER], "--train.num-workers 2"
    driver.run(f"{HostCluster.command(cluster, 'shared')} {options}", timeout=400)
    driver.run(f"{cluster.command('stored')} {options}", timeout=400, **ACCESS)
    assert cluster.list_results("stored") == HostCluster.list_results(cluster, "shared")


@pytest.mark.parametrize("fault", STORAGE_FAULTS)
def test_a_fault_of_the_storage_changes_no_bit(cluster: StoredCluster, local: dict[str, bytes], fault: str) -> None:
    outcome = run_under(cluster, fault, local, faults=STORAGE_FAULTS, timeout=400)
    print(outcome)
    assert outcome.equal_bits
    assert not outcome.wrong
