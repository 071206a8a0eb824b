"""The token: where it is looked for, who may read it, and how a head's answer to it is understood."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from ungan_dist.cluster import local_clusters
from ungan_dist.cluster.authentication import (
    chmod_command,
    explain_missing_token,
    explain_refusal,
    find_token,
    ray_authentication,
)
from ungan_dist.cluster.connection import choose_address
from ungan_dist.cluster.doctor import check_token
from ungan_dist.cluster.local_clusters import LocalCluster, accepts_token, find_own_cluster, list_local_clusters
from ungan_dist.errors import ConfigError


def write_token(path: Path, value: str = "abc\n", *, mode: int = 0o600, folder_mode: int = 0o700) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(value)
    path.chmod(mode)
    path.parent.chmod(folder_mode)
    return path


def test_a_token_is_found_where_ray_finds_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default, named = home / ".ray/auth_token", home / "other/token"
    assert find_token() is None
    for name, text in (("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN and"), ("RAY_AUTH_TOKEN_PATH", str(default))):
        assert text in explain_missing_token(), name
    write_token(default, " abc\n")
    found = find_token()
    assert found
    assert (found.value, found.source) == ("abc", str(default))
    assert "abc" not in repr(found)
    write_token(named, "def")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(named))
    found = find_token()
    assert found
    assert (found.value, found.source) == ("def", str(named))
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ghi")
    found = find_token()
    assert found
    assert (found.value, found.source) == ("ghi", "RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert find_token() is None
    assert "RAY_AUTH_MODE is disabled" in explain_missing_token()


@pytest.mark.parametrize(
    ("variables", "content", "words"),
    [
        ({"RAY_AUTH_MODE": "tokens"}, "abc", ["RAY_AUTH_MODE must be token or disabled, got 'tokens'"]),
        ({"RAY_AUTH_TOKEN_PATH": "/no/where"}, "abc", ["/no/where, which RAY_AUTH_TOKEN_PATH names", "No such file"]),
        ({"RAY_AUTH_TOKEN_PATH": "/"}, "abc", ["RAY_AUTH_TOKEN_PATH", "Is a directory"]),
        ({}, " \n", [".ray/auth_token is empty"]),
    ],
)
def test_a_useless_value_is_refused_by_its_name(
    home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], content: str, words: list[str]
) -> None:
    write_token(home / ".ray/auth_token", content)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        find_token()
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o610, 0o666, 0o755])
def test_a_token_that_others_can_read_is_refused_with_the_command(home: Path, mode: int) -> None:
    path = write_token(home / ".ray/auth_token", mode=mode, folder_mode=0o755)
    with pytest.raises(ConfigError, match=f"mode {mode:04o}") as refused:
        find_token()
    command = str(refused.value).partition("Run: ")[2]
    assert command == chmod_command(path)
    subprocess.run(["bash", "-ec", command], check=True)
    assert find_token()


@pytest.mark.parametrize("folder_mode", [0o777, 0o770, 0o722])
def test_a_token_that_others_can_replace_is_refused(home: Path, folder_mode: int) -> None:
    path = write_token(home / ".ray/auth_token", folder_mode=folder_mode)
    with pytest.raises(ConfigError, match="replace the token") as refused:
        find_token()
    subprocess.run(["bash", "-ec", str(refused.value).partition("Run: ")[2]], check=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert find_token()


def test_a_token_of_another_owner_passes_as_in_ssh(home: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    path = write_token(home / ".ray/auth_token", mode=0o640)
    os.chown(path, 12345, -1)
    assert find_token()
    assert check_token().state == "ok"
    path.chmod(0o644)
    assert find_token()
    assert check_token().state == "warning"


def test_the_remedy_names_what_ray_reads_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_token(home / ".ray/auth_token")
    assert f"the token in {file} is wrong" in explain_refusal("it", find_token())
    monkeypatch.setenv("RAY_AUTH_TOKEN", "wrong")
    text = explain_refusal("it", find_token())
    assert "the token in RAY_AUTH_TOKEN is wrong" in text
    assert "unset it" in text


def test_the_variables_are_restored(home: Path) -> None:
    before = dict(os.environ)
    with ray_authentication("abc", SOME_VARIABLE="1"):
        assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("token", "abc")
        assert os.environ["SOME_VARIABLE"] == "1"
    assert dict(os.environ) == before


_LATE = """
import os, sys
import ray
from ray._raylet import AuthenticationMode, AuthenticationTokenLoader, get_authentication_mode
from ungan_dist.cluster.authentication import ray_authentication

def state():
    token = AuthenticationTokenLoader.instance().has_token() and AuthenticationTokenLoader.instance().get_raw_token()
    print(get_authentication_mode() == AuthenticationMode.TOKEN, token)

state()
with ray_authentication("abc"):
    state()
with ray_authentication("def"):
    state()
with ray_authentication(None):
    state()
"""


def test_a_ray_that_is_already_imported_follows(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LATE], env=dict(os.environ), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["False False", "True abc", "True def", "False False"], done.stderr


class Head(grpc.GenericRpcHandler):
    """Answer like a head with a token, or like an open one."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def service(self, handler_call_details):
        given = dict(handler_call_details.invocation_metadata).get("authorization")
        assert handler_call_details.method == "/ray.rpc.NodeInfoGcsService/CheckAlive"

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self._token and given != f"Bearer {self._token}":
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def addresses() -> Iterator[dict[str, str]]:
    """Start one head with a token, one without, and a server that is none."""
    with ThreadPoolExecutor(2) as threads, socket.create_server(("127.0.0.1", 0)) as other:
        found, servers = {"other": f"127.0.0.1:{other.getsockname()[1]}"}, []
        for name, token in {"token": "right", "open": None}.items():
            server = grpc.server(threads, handlers=[Head(token)])
            found[name] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
            server.start()
            servers.append(server)
        try:
            yield found
        finally:
            for server in servers:
                server.stop(None).wait()


def test_a_heads_answer_is_understood(addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert accepts_token(addresses["token"], "right")
    assert not accepts_token(addresses["token"], "wrong")
    assert not accepts_token(addresses["token"], None)
    assert accepts_token(addresses["open"], None)
    monkeypatch.setattr("ungan_dist.cluster.local_clusters.TIMEOUT_SECONDS", 0.5)
    with pytest.raises(ConfigError, match="no Ray cluster at '127"):
        accepts_token(addresses["other"], None)


@pytest.mark.parametrize("address", ["head", "head:", ":6379", "head:ray", "http://127.0.0.1:8265", "ray://head:10001"])
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="must be host:port"):
        accepts_token(address, None)


def test_tls_variables_must_name_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USE_TLS", "1")
    with pytest.raises(ConfigError, match="RAY_TLS_SERVER_CERT, RAY_TLS_SERVER_KEY, RAY_TLS_CA_CERT must name"):
        accepts_token("127.0.0.1:1", None)


def test_clusters_are_found_by_their_nodes_processes(tmp_path: Path) -> None:
    """Processes that are named and called like Ray's; one is marked as private."""
    raylet = tmp_path / "raylet"
    raylet.symlink_to("/bin/sleep")
    # a program that ignores the options: bash with the name in argv[0]
    start = f"exec -a {raylet} bash -c 'read' raylet --gcs-address=$0"
    processes = [
        subprocess.Popen(["bash", "-c", start, address], env={**os.environ, **extra}, stdin=subprocess.PIPE)
        for address, extra in (("198.51.100.1:1", {}), ("198.51.100.1:2", {"UNGAN_DIST_PRIVATE_CLUSTER": "1"}))
    ]
    try:
        for process in processes:
            # the first bash has the options in its script, and the second has the name
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(bytes(raylet)):
                pass
        found = {cluster.address: cluster for cluster in list_local_clusters()}
        assert {found[f"198.51.100.1:{port}"].uid for port in (1, 2)} == {os.geteuid()}
        assert [found[f"198.51.100.1:{port}"].is_private for port in (1, 2)] == [False, True]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_only_this_users_lasting_clusters_are_joined(
    addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, strangers = os.geteuid(), 54321
    clusters: list[LocalCluster] = []
    contacted: list[str] = []
    monkeypatch.setattr(local_clusters, "list_local_clusters", lambda: clusters)
    monkeypatch.setattr(
        local_clusters, "accepts_token", lambda *words: contacted.append(words[0]) or accepts_token(*words)
    )

    def add(address: str, *, uid: int = mine, is_private: bool = False) -> None:
        clusters.append(LocalCluster(address=address, uid=uid, is_private=is_private))

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert choose_address("auto") == ("local", "started for this command")
    add(addresses["open"], uid=strangers)
    add("127.0.0.1:1")  # its head was killed
    add(addresses["token"], is_private=True)
    assert find_own_cluster() is None
    assert contacted == ["127.0.0.1:1"]
    assert f"{addresses['open']} belongs to user {strangers} and is not joined" in capsys.readouterr().err
    add(addresses["token"])
    assert choose_address("auto") == (addresses["token"], "your cluster on this machine")
    add(addresses["open"])
    with pytest.raises(ConfigError, match=f"2 Ray clusters .*{addresses['token']}.*--cluster HOST:PORT or RAY_ADDRESS"):
        find_own_cluster()
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert choose_address("auto") == ("head:6379", "named by RAY_ADDRESS")
