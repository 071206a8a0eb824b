"""Submission without a cluster: access, identity, what is sent, and a job's outcome."""

from __future__ import annotations

import http.server
import json
import os
import secrets
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from in_process import run_command
from ray.job_submission import JobDetails, JobStatus, JobType

from ungan_dist import store
from ungan_dist.cluster.jobs import judge_job
from ungan_dist.cluster.jobs_api import check_access, connect_jobs_api, is_loopback
from ungan_dist.cluster.secret_lint import find_secrets
from ungan_dist.cluster.submit import copy_package, prepare_submission, submit_job
from ungan_dist.commands.options import recipe_config
from ungan_dist.commands.status import main as status_command
from ungan_dist.errors import ConfigError
from ungan_dist.runs.status import RunState, Status

START, END = 1000.0, 1100.0


def job(state: str, exit_code: int | None = None, message: str = "") -> JobDetails:
    ended = state not in ("PENDING", "RUNNING")
    return JobDetails(
        type=JobType.SUBMISSION,
        submission_id="0123456789ab-1",
        status=JobStatus(state),
        entrypoint="",
        start_time=int(START * 1000),
        end_time=int(END * 1000) if ended else None,
        driver_exit_code=exit_code,
        message=message,
    )


def status(state: str, at: float = 1050.0) -> Status:
    return Status(
        state=RunState(state), host="node", pid=1, time=at, error="no space left" if state != "COMPLETE" else ""
    )


@pytest.mark.parametrize(
    ("job", "status", "state", "code"),
    [
        (job("PENDING"), None, "PENDING", 3),
        (job("RUNNING"), status("COMPLETE"), "RUNNING", 3),
        # the run's own status decides
        (job("SUCCEEDED", 0), status("COMPLETE"), "COMPLETE", 0),
        (job("SUCCEEDED", 0), status("PARTIAL"), "PARTIAL", 3),
        (job("SUCCEEDED", 0), status("FAILED"), "FAILED", 1),
        (job("SUCCEEDED", 0), status("RUNNING"), "PARTIAL", 3),
        (job("FAILED", 2), status("FAILED"), "FAILED", 2),
        (job("STOPPED"), status("RUNNING"), "PARTIAL", 3),
        # completed, and stopped while it exited
        (job("STOPPED"), status("COMPLETE"), "COMPLETE", 0),
        # the status of another attempt does not count
        (job("STOPPED"), status("COMPLETE", at=START - 60), "PARTIAL", 3),
        (job("STOPPED"), status("COMPLETE", at=END + 60), "PARTIAL", 3),
        (job("FAILED", 2), status("COMPLETE", at=START - 60), "REFUSED", 2),
        # without a visible status the driver's exit code decides, never Ray's SUCCEEDED
        (job("SUCCEEDED", 0), None, "COMPLETE", 0),
        (job("FAILED", 3), None, "PARTIAL", 3),
        (job("FAILED", 2), None, "REFUSED", 2),
        (job("FAILED", 1), None, "FAILED", 1),
        (job("FAILED", 137), None, "FAILED", 1),
        (job("STOPPED"), None, "PARTIAL", 3),
        (job("FAILED", None, "the node died"), None, "FAILED", 1),
        (job("SUCCEEDED", None), None, "FAILED", 1),
    ],
)
def test_a_job_is_judged_by_its_runs_status(job: JobDetails, status: Status | None, state: str, code: int) -> None:
    assert judge_job(job, status)[:2] == (state, code)


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set a home folder without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


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


def test_a_remote_address_needs_a_token(empty_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_access("http://127.0.0.1:8265", without_token=False)
    for address in ("http://head.example.com:8265", "https://head.example.com", "http://192.0.2.1:8265"):
        with pytest.raises(
            ConfigError,
            match=r"RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH are not set, and .*auth_token does.*--without-token",
        ):
            check_access(address, without_token=False)
    assert capsys.readouterr().err == ""
    check_access("http://head.example.com:8265", without_token=True)
    (empty_home / ".ray").mkdir()
    (empty_home / ".ray/auth_token").write_text(secrets.token_hex(32))
    (empty_home / ".ray/auth_token").chmod(0o600)
    check_access("http://head.example.com:8265", without_token=False)
    assert capsys.readouterr().err.count("is not encrypted") == 2
    check_access("https://head.example.com:8265", without_token=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [["submit", "digits", "--output", "/shared/runs"], ["status", "0123456789ab-1"], ["cancel", "0123456789ab-1"]],
)
def test_no_command_contacts_a_remote_address_without_a_token(
    empty_home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
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
    empty_home: Path, proxy: tuple[str, Path, list[str | None]], monkeypatch: pytest.MonkeyPatch
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


def prepare(*options: str, output: str = "/shared/runs"):
    config = recipe_config(["digits", *options, "--output", output], command="submit")
    return prepare_submission(config, "digits", list(options))


def test_object_storage_is_allowed_without_credentials() -> None:
    job = prepare("--execution.run-name", "one", output="s3://bucket/audits?region=us-east-1")
    assert job.run == "s3://bucket/audits/one?region=us-east-1"
    assert "'s3://bucket/audits?region=us-east-1'" in job.entrypoint
    with pytest.raises(ConfigError, match="holds credentials"):
        prepare(output="s3://key:password@bucket/audits")


def test_the_hash_ignores_the_length_and_the_fleet() -> None:
    one = prepare()
    for same in (
        prepare("--shadows.num-models", "128"),
        prepare("--num-seeds", "9"),
        prepare("--methods", "original,retrain,ungan"),
        prepare("--fleet.num-workers", "4"),
        prepare(output="/shared/runs/"),
    ):
        assert (same.hash, same.run) == (one.hash, one.run)
    others = [
        prepare("--train.epochs", "3"),
        prepare("--split.forget-fraction", "0.1"),
        prepare("--execution.run-name", "another"),
        prepare(output="/elsewhere"),
    ]
    assert len({one.hash, *(other.hash for other in others)}) == 5


def test_given_lists_are_hashed_and_need_absolute_paths() -> None:
    one, other = (prepare("--given.forget", f"/shared/{name}.csv") for name in ("one", "other"))
    assert len({prepare().hash, one.hash, other.hash}) == 3
    with pytest.raises(ConfigError, match=r"given.forget must be an absolute path .* 'forget.csv'"):
        prepare("--given.forget", "forget.csv")


def test_options_are_quoted_for_the_shell() -> None:
    submission = prepare("--execution.run-name", "a'; touch $(id) `x` &")
    words = subprocess.run(
        ["bash", "-c", f"python() {{ printf '%s\\n' \"$@\"; }}; {submission.entrypoint}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert words[:4] == ["-m", "ungan_dist", "run", "digits"]
    config = recipe_config(words[3:], command="run")
    assert (config.output, config.cluster) == ("/shared/runs", "auto")
    assert config.execution.run_name == "a'; touch $(id) `x` &"


def test_a_relative_output_is_refused() -> None:
    for output in ("runs", "../runs"):
        with pytest.raises(ConfigError, match="absolute folder"):
            prepare(output=output)


def test_a_secret_among_the_options_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="a URL with a password") as caught:
        prepare("--source.path", "https://somebody:opensesame@example.com/data")
    assert "opensesame" not in str(caught.value)


class _Client:
    """Keep what is sent to a Jobs API."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def list_jobs(self) -> list[JobDetails]:
        return []

    def submit_job(self, **sent: Any) -> str:
        self.sent = sent
        return str(sent["submission_id"])


def test_a_job_carries_nothing_of_the_users_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = secrets.token_hex(32)
    for name in ("RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, value)
    client: Any = _Client()
    submit_job(client, prepare("--num-seeds", "2"), tmp_path)
    sent = json.dumps(client.sent)
    assert "RAY_JOB_STOP_WAIT_TIME_S" in sent
    assert value not in sent
    assert find_secrets(sent) == []


def test_the_copied_package_is_complete_and_runs() -> None:
    with copy_package() as code:
        assert [path.name for path in code.iterdir()] == ["ungan_dist"]
        files = [path for path in code.rglob("*") if path.is_file()]
        assert {"cluster", "kernels", "methods", "cli.py"} <= {path.relative_to(code).parts[1] for path in files}
        assert not [path for path in code.rglob("*") if path.is_symlink() or path.name == "__pycache__"]
        assert len(files) > 50
        assert sum(path.stat().st_size for path in files) < 2 * 2**20
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        script = "import ungan_dist.config.recipes, ungan_dist.cluster.policy as policy; print(policy.__file__)"
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=code, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(str(code))
    assert not code.exists()


@pytest.mark.parametrize(("state", "code"), [("COMPLETE", 0), ("PARTIAL", 3), ("FAILED", 1), ("RUNNING", 3)])
def test_status_of_a_run_folder_needs_no_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    import platform

    mine = Status(
        state=RunState(state), host=platform.node(), pid=os.getpid(), time=time.time(), missing=["ungan, seed 0"]
    )
    store.write_json(tmp_path / "status.json", asdict(mine))
    assert status_command([str(tmp_path)]) == code
    printed = capsys.readouterr().out
    assert f": {state}\n" in printed
    assert "missing: ungan, seed 0" in printed
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    store.write_json(tmp_path / "status.json", {**asdict(mine), "pid": dead.pid})
    status_command([str(tmp_path)])
    assert ("its driver is gone" in capsys.readouterr().out) is (state == "RUNNING")
    store.write_json(tmp_path / "purged.json", {})
    assert status_command([str(tmp_path)]) == 0
    assert "PURGED" in capsys.readouterr().out
    store.write_json(tmp_path / "purging.json", {})
    assert status_command([str(tmp_path)]) == 1
    assert "cut short" in capsys.readouterr().out


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no status"):
        status_command([str(tmp_path)])
    with pytest.raises(ConfigError, match="there is no folder"):
        status_command([str(tmp_path / "gone")])
