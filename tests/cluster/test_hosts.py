"""An audit on hosts with a network of their own: faults change no bit, and a stranger is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_audit import run_under
from host_cluster import DRIVER, HEAD, OBJECT, HostCluster, write_token
from host_faults import FAULTS
from wire import WORDS, read_streams, recording

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
QUICK = (
    "the power of a worker's host is cut",
    "a worker's cable is pulled for 3 s",
    "the power of the head's host is cut until the audit has ended",
    "a worker's host has a full disk, and its workers start again",
    "a second driver on another host starts the same run",
)
"""Faults that run without `make chaos`."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostCluster]:
    with HostCluster(tmp_path_factory.mktemp("hosts")) as started:
        yield started


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What crosses the network during the undisturbed audit."""
    return tmp_path_factory.mktemp("frames") / "frames"


@pytest.fixture(scope="module")
def undisturbed(cluster: HostCluster, frames: Path) -> dict[str, bytes]:
    with recording(cluster.network, frames):
        audit = cluster.start_audit("undisturbed")
        assert audit.wait(240) == 0, cluster.log_of("undisturbed").read_text()
        cluster.send_object()
    return cluster.list_results("undisturbed")


def test_hosts_have_their_own_names_addresses_and_folders(cluster: HostCluster) -> None:
    network = cluster.network
    for name in (HEAD, DRIVER):
        found = network[name].run("hostname; hostname -I; echo $HOME $TMPDIR").stdout.split()
        assert found == [name, network[name].address, "/mnt/home", "/mnt/tmp"]
    for folder, seen in (("~", False), ("/mnt/tmp", False), ("/mnt/shared", True)):
        network[HEAD].run(f"touch {folder}/mark")
        assert (network[DRIVER].run(f"ls {folder}/mark", check=False).returncode == 0) is seen


def test_the_cluster_gives_the_bits_of_one_machine(cluster: HostCluster, undisturbed: dict[str, bytes]) -> None:
    local = cluster.command("local").replace(f"--cluster {cluster.address}", "--execution.num-processes 2")
    cluster.network[DRIVER].run(local, timeout=240)
    assert cluster.list_results("local") == undisturbed
    assert len([name for name in undisturbed if name.startswith("shadows/")]) == 12


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize("word", [*WORDS, OBJECT])
def test_without_tls_units_can_be_read_on_the_network(frames: Path, word: str) -> None:
    assert any(word.encode() in content for content in read_streams(frames).values())


@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=() if name in QUICK else pytest.mark.chaos) for name in FAULTS]
)
def test_a_fault_changes_no_bit(cluster: HostCluster, undisturbed: dict[str, bytes], fault: str) -> None:
    outcome = run_under(cluster, fault, undisturbed)
    print(outcome)
    assert outcome.equal_bits
    assert not outcome.wrong
    assert outcome.late or "late" not in fault


@pytest.mark.parametrize(("token", "words"), [("", "there is no token"), ("f" * 32, "is wrong")])
def test_a_host_without_the_token_is_refused(cluster: HostCluster, token: str, words: str) -> None:
    driver = cluster.network[DRIVER]
    try:
        if token:
            write_token(driver, token)
        else:
            driver.run("rm .ray/auth_token")
        refused = driver.run(cluster.command("stranger"), check=False)
        assert refused.returncode == 2
        assert words in refused.stderr
        joined = driver.run(f"RAY_AUTH_MODE=token ray start --address={cluster.address} --num-cpus=1", check=False)
        assert joined.returncode
    finally:
        cluster.start_ray(DRIVER)
    assert not (cluster.network.shared / "stranger").exists()
