"""The hosts of a network are disturbed as the faults state, and are whole afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from host_limits import filling_disk, limiting_cpu
from hosts import Network

pytestmark = pytest.mark.process
LISTEN = """
import hashlib, socket
with socket.create_server(("", 5000)) as server:
    with server.accept()[0] as connection:
        received = hashlib.sha256()
        while part := connection.recv(1 << 16):
            received.update(part)
        print(received.hexdigest())
"""
SEND = """
import hashlib, os, socket, time
content = os.urandom(5_000_000)
begun = time.monotonic()
with socket.create_connection(("10.77.0.2", 5000), timeout=60) as connection:
    print(time.monotonic() - begun)
    connection.sendall(content)
print(hashlib.sha256(content).hexdigest())
"""
COUNT = """
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.bind(("", 5001))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    one.settimeout(30)
    numbers = set()
    try:
        while True:
            numbers.add(one.recv(100))
            one.settimeout(3)
    except TimeoutError:
        print(len(numbers))
"""
SEND_MANY = """
import socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    for number in range(1000):
        one.sendto(str(number).encode(), ("10.77.0.2", 5001))
        time.sleep(0.001)
"""


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network(tmp_path, ["one", "other"], disk="20m") as started:
        yield started


def run_pair(network: Network, receiver: str, sender: str) -> tuple[list[str], list[str]]:
    """Run a program on ``other`` and then one on ``one``; return what each has printed."""
    log = network.shared / "received"
    receiving = network["other"].start(f"python -c '{receiver}'", log)
    network["other"].run("for i in $(seq 100); do ss -lntu | grep -q :500 && exit; sleep .05; done; exit 1")
    sent = network["one"].run(f"python -c '{sender}'").stdout.split()
    assert receiving.wait(30) == 0, log.read_text()
    received = log.read_text().split()
    log.unlink()
    return received, sent


def test_a_cable_delays_packets_and_damages_none(network: Network) -> None:
    with network.disturbing_cable("other", delay_ms=100):
        received, (seconds, sent) = run_pair(network, LISTEN, SEND)
    assert received == [sent]
    assert float(seconds) >= 0.2
    received, (_, sent) = run_pair(network, LISTEN, SEND)
    assert received == [sent]


def test_a_cable_loses_packets(network: Network) -> None:
    with network.disturbing_cable("other", loss=0.2):
        ((received,), _) = run_pair(network, COUNT, SEND_MANY)
    assert 700 < int(received) < 900
    assert run_pair(network, COUNT, SEND_MANY)[0] == ["1000"], "packets are lost without a disturbance"


def test_a_host_has_a_share_of_a_cpu(network: Network, tmp_path: Path) -> None:
    host, log = network["one"], tmp_path / "log"
    busy = host.start("echo $$; while [ ! -e stop ]; do :; done; times", log)
    with limiting_cpu(host, 0.1):
        time.sleep(3)
        (host.home / "stop").touch()
        assert busy.wait(10) == 0
    assert float(log.read_text().split()[1].removeprefix("0m").removesuffix("s")) < 1
    assert "ungan-one" not in Path(f"/proc/{host.pid}/cgroup").read_text()


def test_a_disk_is_full_and_is_empty_again(network: Network) -> None:
    host = network["one"]
    with filling_disk(host):
        refused = host.run("echo more > /mnt/tmp/one", check=False)
        assert "No space left on device" in refused.stderr
        host.run("echo more > /mnt/home/one")
        network["other"].run("echo more > /mnt/tmp/one")
    host.run("head -c 10000000 /dev/zero > /mnt/tmp/one")
