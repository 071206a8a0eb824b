"""How the commands explain a handshake that fails, against servers of gRPC, which Ray's head is."""

from __future__ import annotations

import datetime
import shutil
import ssl
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from in_process import assert_refused, run_command

from ungan_dist.cluster import certificates
from ungan_dist.cluster.certificates import VARIABLES, make_certificates, read_hosts
from ungan_dist.cluster.encryption_check import check_encryption
from ungan_dist.cluster.local_clusters import accepts_token, is_listening
from ungan_dist.cluster.tls import TLSMismatch, find_files, read_expiry
from ungan_dist.errors import ConfigError

NAMES = {
    "RAY_TLS_SERVER_CERT": "host.crt",
    "RAY_TLS_SERVER_KEY": "host.key",
    "RAY_TLS_CA_CERT": "authority.crt",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of hosts: of one authority, of another, expired, and with files of both authorities."""
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = folder / "ours", folder / "theirs"
    make_certificates(ours, read_hosts(["head=127.0.0.1", "host"]), days=90)
    make_certificates(theirs, read_hosts(["head=127.0.0.1"]), days=90)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "_CLOCKS", datetime.timedelta(days=30))
        make_certificates(ours, read_hosts(["late=127.0.0.1"]), days=-1)
    found = {"ours": ours / "host", "head": ours / "head", "another": theirs / "head", "late": ours / "late"}
    for name in ("mixed", "both"):
        found[name] = folder / name
        shutil.copytree(theirs / "head", found[name])
    authorities = [place / "authority.crt" for place in (ours, theirs)]
    shutil.copyfile(authorities[0], found["mixed"] / "authority.crt")
    (found["both"] / "authority.crt").write_text("".join(file.read_text() for file in authorities))
    return found


@pytest.fixture
def use(made: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    def use(name: str | None) -> None:
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        if name is not None:
            monkeypatch.setenv("RAY_USE_TLS", "1")
            for variable, file in NAMES.items():
                monkeypatch.setenv(variable, str(made[name] / file))

    return use


class _Nodes(grpc.GenericRpcHandler):
    """Answer every call with nothing, as Ray's head answers an empty question."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda *_: b"")


@pytest.fixture(scope="module")
def heads(made: dict[str, Path]) -> Iterator[dict[str, str]]:
    """Addresses of heads: without TLS, with it, with an expired certificate, and at an address that none names."""
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_Nodes(),))
    found = {"plain": f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"}
    for name, folder, host in (
        ("ours", "head", "127.0.0.1"),
        ("late", "late", "127.0.0.1"),
        ("unnamed", "head", "127.0.0.2"),
    ):
        key, certificate, authority = (
            (made[folder] / file).read_bytes() for file in ("host.key", "host.crt", "authority.crt")
        )
        credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
        found[name] = f"{host}:{server.add_secure_port(f'{host}:0', credentials)}"
    server.start()
    yield found
    server.stop(None)


def test_a_host_of_the_authority_is_admitted(heads: dict[str, str], use) -> None:
    use("ours")
    assert accepts_token(heads["ours"], None)
    use(None)
    assert accepts_token(heads["plain"], None)


@pytest.mark.parametrize(
    ("mine", "head", "words"),
    [
        (None, "ours", "RAY_USE_TLS is not set here"),
        ("ours", "plain", "does not use TLS, but RAY_USE_TLS is set here"),
        ("another", "ours", "no certificate of the authority in"),
        ("ours", "late", "has an expired certificate: make it again"),
        ("late", "ours", r"late/host.crt cannot be used \(certificate has expired\)"),
        ("ours", "unnamed", "that does not name 127.0.0.2: make it again with --host NAME=127.0.0.2"),
        ("both", "ours", "both/host.crt, which is not of its authority"),
        ("mixed", "ours", r"mixed/host.crt cannot be used \(.*\): make it again"),
    ],
)
def test_the_reason_and_the_remedy_are_named(
    heads: dict[str, str], use, mine: str | None, head: str, words: str
) -> None:
    use(mine)
    with pytest.raises(ConfigError, match=words) as refused:
        accepts_token(heads[head], "token")
    assert "ungan-dist tls" in str(refused.value) or head == "plain"


def test_a_cluster_of_ones_own_is_found_whatever_its_tls(heads: dict[str, str], use) -> None:
    use(None)
    assert is_listening(heads["ours"])
    assert not is_listening("127.0.0.1:1")
    with pytest.raises(TLSMismatch):
        accepts_token(heads["ours"], None)


def test_a_key_that_others_can_read_is_refused_with_the_command(use, made: dict[str, Path]) -> None:
    use("ours")
    key = made["ours"] / "host.key"
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="mode 0640") as refused:
        find_files()
    subprocess.run(["bash", "-ec", str(refused.value).partition("Run: ")[2]], check=True)
    assert find_files()


def test_an_authority_that_others_can_read_issues_nothing(tmp_path: Path) -> None:
    hosts = read_hosts(["head=10.0.0.1"])
    make_certificates(tmp_path / "tls", hosts, days=1)
    key = tmp_path / "tls/authority.key"
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"mode 0644.*admits hosts to the cluster") as refused:
        make_certificates(tmp_path / "tls", hosts, days=1)
    subprocess.run(["bash", "-ec", str(refused.value).partition("Run: ")[2]], check=True)
    assert make_certificates(tmp_path / "tls", hosts, days=1)


@pytest.mark.parametrize("variable", NAMES)
def test_missing_files_are_named(use, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    use("ours")
    monkeypatch.setenv(variable, "/no/where")
    with pytest.raises(ConfigError, match=f"RAY_USE_TLS is set, so .*{variable}"):
        find_files()
    monkeypatch.delenv(variable)
    with pytest.raises(ConfigError, match=variable):
        find_files()


def test_doctor_warns_before_a_certificate_expires(use) -> None:
    use("ours")
    files = find_files()
    assert files
    end = read_expiry(files)
    for days, state in ((40, "ok"), (10, "warning")):
        found = check_encryption(["10.0.0.1", "10.0.0.2"], now=end - datetime.timedelta(days=days, minutes=1))
        assert (found.state, f"expires in {days} days" in found.detail) == (state, True)
    use("late")
    assert check_encryption(["10.0.0.1"]).state == "failure"
    use(None)
    assert check_encryption(["10.0.0.1", "10.0.0.1"]).state == "ok"
    assert check_encryption(["10.0.0.1", "10.0.0.2"]).state == "warning"


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the program openssl")
def test_openssl_finds_every_certificate_good_and_only_the_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    folder.mkdir(mode=0o755)
    folder.chmod(0o2770)  # a group shares it
    done = run_command("tls", folder, "--host", "head=10.0.0.1,head.cluster", "--host", "10.0.0.2")
    assert done.returncode == 0, done.stderr
    for name, subject in (("head", "10.0.0.1"), ("head", "127.0.0.1"), ("10.0.0.2", "10.0.0.2")):
        verify = ["openssl", "verify", "-x509_strict", "-verify_ip", subject, "-CAfile", folder / "authority.crt"]
        subprocess.run([*verify, folder / name / "host.crt"], check=True, capture_output=True)
    names = ["openssl", "x509", "-noout", "-checkhost", "head.cluster", "-in", folder / "head/host.crt"]
    assert "does match" in subprocess.run(names, check=True, capture_output=True, text=True).stdout
    for key in folder.rglob("*.key"):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    # the printed lines are those of the file
    environment = (folder / "head/environment").read_text()
    assert all(line in done.stdout for line in environment.splitlines())
    assert set(VARIABLES) == {line.split()[1].partition("=")[0] for line in environment.splitlines()}


def test_a_later_call_keeps_the_authority_and_renews_a_host(tmp_path: Path) -> None:
    hosts = read_hosts(["one"])
    make_certificates(tmp_path / "tls", hosts, days=5)
    files = {path: path.read_bytes() for path in (tmp_path / "tls").rglob("*") if path.is_file()}
    make_certificates(tmp_path / "tls", read_hosts(["two"]), days=5)
    assert files == {path: path.read_bytes() for path in files}
    make_certificates(tmp_path / "tls", hosts, days=5)
    changed = {path.name for path, content in files.items() if path.read_bytes() != content}
    assert changed == {"host.key", "host.crt"}
    context = ssl.create_default_context(cafile=tmp_path / "tls/authority.crt")
    context.load_cert_chain(tmp_path / "tls/one/host.crt", tmp_path / "tls/one/host.key")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "tls needs a folder and a host"),
        (["FOLDER"], "tls needs a folder and a host"),
        (["FOLDER", "--host", "a b"], "'a b' is neither a host's name nor an address"),
        (["FOLDER", "--host", "one=not an address"], "'not an address' is neither"),
        (["FOLDER", "--host", "../one"], "'../one' is neither"),
        (["FOLDER", "--host", "::1"], "give the host a name too"),
        (["FOLDER", "--host", "one", "--host", "one=10.0.0.1"], "one is given twice"),
        (["FOLDER", "--host", "one", "--days", "0"], "--days must be between"),
    ],
)
def test_wrong_options_are_refused_and_write_nothing(tmp_path: Path, words: list[str], reason: str) -> None:
    assert_refused(run_command("tls", *(str(tmp_path / "tls") if word == "FOLDER" else word for word in words)), reason)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_half_an_authority_is_refused(tmp_path: Path) -> None:
    (tmp_path / "authority.crt").write_text("nothing")
    assert_refused(run_command("tls", tmp_path, "--host", "one"), "no readable authority.key and authority.crt")
