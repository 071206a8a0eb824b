"""Access to a Jobs API: never across a network without a token, and never past a certificate that fails."""

from __future__ import annotations

import http.server
import json
import secrets
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import run_command

from ungan_dist.cluster.jobs_api import check_access, connect_jobs_api, is_loopback
from ungan_dist.errors import ConfigError


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://127.0.0.1:8265", True),
        ("http://127.8.9.1:8265", True),
        ("http://localhost:8265", True),
        ("https://[::1]:8265", True),
        ("http://10.0.0.1:8265", False),
        ("http://0.0.0.0:8265", False),
        ("http://head.example.com:8265", False),
        ("http://127.0.0.1.example.com:8265", False),
        ("http://localhost.example.com:8265", False),
    ],
)
def test_loopback_addresses_are_recognised(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


def test_a_remote_address_needs_a_token(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_access("http://127.0.0.1:8265", without_token=False)
    for address in ("http://head.example.com:8265", "https://head.example.com", "http://192.0.2.1:8265"):
        with pytest.raises(
            ConfigError,
            match=r"RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH are not set, and .*auth_token does.*--without-token",
        ):
            check_access(address, without_token=False)
    assert capsys.readouterr().err == ""
    check_access("http://head.example.com:8265", without_token=True)
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text(secrets.token_hex(32))
    (home / ".ray/auth_token").chmod(0o600)
    check_access("http://head.example.com:8265", without_token=False)
    assert capsys.readouterr().err.count("is not encrypted") == 2
    check_access("https://head.example.com:8265", without_token=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [["submit", "digits", "--output", "/shared/runs"], ["status", "0123456789ab-1"], ["cancel", "0123456789ab-1"]],
)
def test_no_command_contacts_a_remote_address_without_a_token(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    contacted: list[str] = []
    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", contacted.append)
    done = run_command(*words, "--address", "http://192.0.2.1:8265")
    assert done.returncode == 2
    assert "192.0.2.1 is not contacted without a token" in done.stderr
    assert not contacted


class _Version(http.server.BaseHTTPRequestHandler):
    """Answer as a Jobs API to the request for its version, and keep the tokens that were sent."""

    tokens: list[str | None]

    def do_GET(self) -> None:
        self.tokens.append(self.headers.get("Authorization"))
        answer = json.dumps({"version": "4", "ray_version": "2", "ray_commit": "", "session_name": ""}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: Any) -> None:
        return None


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[tuple[str, Path, list[str | None]]]:
    """Serve https with a certificate of a private authority; yield the address, the certificate and the tokens."""
    if not shutil.which("openssl"):
        pytest.skip("the program openssl is not installed")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", *words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tokens: list[str | None] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Version,), {"tokens": tokens}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://localhost:{server.server_port}", certificate, tokens
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_certificate_of_a_proxy_is_verified(
    home: Path, proxy: tuple[str, Path, list[str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, certificate, tokens = proxy
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=r"could not be verified .*REQUESTS_CA_BUNDLE"):
        connect_jobs_api(address)
    assert tokens == []
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    connect_jobs_api(address)
    assert tokens


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://127.0.0.1:10001", "head", "http://", "file:///etc"])
def test_an_address_that_is_no_jobs_api_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="Jobs API"):
        check_access(address, without_token=False)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="password") as caught:
        check_access("https://somebody:opensesame@head.example.com", without_token=True)
    assert "opensesame" not in str(caught.value)
