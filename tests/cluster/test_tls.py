"""A cluster of hosts with the certificates of ``ungan-dist tls``: the same bits, nothing readable, no stranger."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from host_certificates import copy_certificate, make_certificates
from host_cluster import DRIVER, HEAD, OBJECT, TOKEN, USE_TLS, HostCluster, write_token
from wire import WORDS, Direction, list_plain, read_streams, recording

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
STRANGER = "stranger"
NAMES = (HEAD, DRIVER, "left", STRANGER)  # in the order of their addresses
SMALL = " --shadows.num-models 4 --num-seeds 1 --train.epochs 2"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority") / "tls"
    make_certificates(folder, NAMES)
    return folder


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A cluster, and what its switch has carried since its start."""

    cluster: HostCluster
    frames: Path


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("hosts")
    cluster, frames = HostCluster(folder, ("left",), others=(STRANGER,)), folder / "frames"
    with cluster.network:
        for name in (HEAD, DRIVER, "left"):
            copy_certificate(authority, cluster.network[name])
        with recording(cluster.network, frames):
            cluster.address = f"{cluster.network[HEAD].address}:6379"
            cluster.start()
            yield Recorded(cluster=cluster, frames=frames)


@pytest.fixture(scope="module")
def streams(recorded: Recorded) -> dict[Direction, bytes]:
    """What crosses the network during an audit, which has the bits of one machine."""
    cluster = recorded.cluster
    driver = cluster.network[DRIVER]
    driver.run(cluster.command("there") + SMALL, timeout=240)
    local = (cluster.command("here") + SMALL).replace(f"--cluster {cluster.address}", "--execution.num-processes 1")
    driver.run(local, timeout=240)
    assert cluster.list_results("there") == cluster.list_results("here")
    assert len([name for name in cluster.list_results("there") if name.startswith("shadows/")]) == 2
    cluster.send_object()
    return read_streams(recorded.frames)


def test_every_connection_between_hosts_begins_with_a_handshake(streams: dict[Direction, bytes]) -> None:
    assert len({direction.receiver for direction in streams}) > 10
    assert list_plain(streams) == []


@pytest.mark.parametrize("word", [*WORDS, OBJECT, "RAY_AUTH_TOKEN", TOKEN])
def test_nothing_of_a_unit_can_be_read(streams: dict[Direction, bytes], word: str) -> None:
    assert not [direction for direction, content in streams.items() if word.encode() in content]


@dataclass(frozen=True, kw_only=True)
class Access:
    """What a host has, and what its commands answer."""

    certificate: str
    """``none``, or of which authority: ``ours``, ``another`` or ``expired``."""
    token: str
    words: tuple[str, ...]


ACCESSES = {
    "no certificate": Access(
        certificate="none", token=TOKEN, words=("RAY_USE_TLS is not set here", "`ungan-dist tls`")
    ),
    "a certificate of another authority": Access(
        certificate="another", token=TOKEN, words=("no certificate of the authority in", "`ungan-dist tls`")
    ),
    "no token": Access(certificate="ours", token="", words=("there is no token", "ray get-auth-token")),
    "a wrong token": Access(certificate="ours", token="f" * 32, words=("is wrong", "ray get-auth-token")),
}


@pytest.mark.parametrize("access", ACCESSES.values(), ids=ACCESSES.keys())
def test_a_stranger_is_refused_with_the_reason(
    recorded: Recorded, authority: Path, tmp_path: Path, access: Access
) -> None:
    cluster = recorded.cluster
    stranger = cluster.network[STRANGER]
    shutil.rmtree(stranger.home / ".ray", ignore_errors=True)
    if access.certificate == "ours":
        copy_certificate(authority, stranger)
    elif access.certificate == "another":
        make_certificates(tmp_path / "other", NAMES)
        copy_certificate(tmp_path / "other", stranger)
    if access.token:
        write_token(stranger, access.token)
    # Ray itself would retry for minutes
    refused = stranger.run(cluster.command("stranger"), check=False, timeout=30)
    assert refused.returncode == 2, refused.stderr
    for word in access.words:
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (cluster.network.shared / "stranger").exists()


@pytest.mark.parametrize(
    ("name", "words"), [(DRIVER, "ok       encryption: nodes use TLS"), (STRANGER, "is not set here")]
)
def test_doctor_names_the_encryption_or_the_reason(recorded: Recorded, name: str, words: str) -> None:
    cluster = recorded.cluster
    host = cluster.network[name]
    if name == STRANGER:
        shutil.rmtree(host.home / ".ray", ignore_errors=True)
    check = f"from ungan_dist.cluster.doctor import *; print(*check_cluster('{cluster.address}', Path('/mnt/home')))"
    assert words in host.run(f'{USE_TLS}python -c "{check}"').stdout
