"""Submission to a real Ray head with token authentication, over its Jobs API on loopback.

One audit is submitted, stopped, and continued to its end by its own process. The other commands run in this
process, because the start of a process takes seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from dashboard import metrics_of, panels
from in_process import run_command
from ray_head import SCRIPTS, Head, NotStarted, start_ray
from small_audit import SMALL_OPTIONS

from ungan_dist import store
from ungan_dist.cluster.local_clusters import accepts_token

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(240),
    # Ray's client passes it to aiohttp
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    home = tmp_path_factory.mktemp("home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "HOME": str(home),
        "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_metrics_report_interval_ms": "1000",
    }
    # the token of the commands in this process, which Ray keeps once it has read it
    token = os.environ["RAY_AUTH_TOKEN"]
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text(token)
    (home / ".ray/auth_token").chmod(0o600)
    log = home / "head.log"
    with contextlib.ExitStack() as stack:
        try:
            ports, sessions = stack.enter_context(start_ray(environment, log, token))
        except NotStarted:  # retry with other ports
            ports, sessions = stack.enter_context(start_ray(environment, log, token))
        yield Head(
            address=f"http://127.0.0.1:{ports['dashboard-port']}",
            port=ports["port"],
            agent_port=ports["dashboard-agent-listen-port"],
            metrics_port=ports["metrics-export-port"],
            environment=environment,
            token=token,
            output=tmp_path_factory.mktemp("shared"),
            sessions=sessions,
        )


OPTIONS = [*SMALL_OPTIONS, "--shadows.num-models", "8", "--train.epochs", "120", "--fleet.num-workers", "2"]


def submit_words(output: Path, *options: str) -> list[str]:
    # on a GPU host both workers share one
    share = ["--fleet.gpus-per-worker", "0.5" if torch.cuda.is_available() else "0"]
    return ["submit", "digits", *OPTIONS, *share, "--output", str(output), *options]


def call(head: Head, *words: str) -> subprocess.CompletedProcess[str]:
    return run_command(*words, "--address", head.address)


def submit(head: Head, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return call(head, *submit_words(output, *options))


def start_process(head: Head, *words: str, folder: Path = ROOT, **environment: str | None) -> subprocess.Popen[str]:
    """Start a command as a user would in a folder; a variable set to None is removed."""
    whole = {**head.environment, **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "ungan_dist", *words, "--address", head.address],
        cwd=folder,
        env={name: value for name, value in whole.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def job_id(stdout: str) -> str:
    found = re.search(r"^job ([0-9a-f]{12}-\d+)$", stdout, re.MULTILINE)
    assert found, stdout
    return found.group(1)


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """An audit that was submitted, submitted again too early, and stopped."""

    output: Path
    first: subprocess.CompletedProcess[str]
    duplicate: subprocess.CompletedProcess[str]
    cancel: subprocess.CompletedProcess[str]
    state: str
    log_odds: dict[Path, int]
    """Committed files of shadow models and their times."""


@pytest.fixture(scope="module")
def stopped(head: Head) -> Stopped:
    output = head.output / "runs"
    first = submit(head, output)
    assert first.returncode == 0, first.stderr
    duplicate = submit(head, output)
    deadline = time.monotonic() + 120
    while not list(output.glob("shadows/*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    cancel = call(head, "cancel", job_id(first.stdout))
    return Stopped(
        output=output,
        first=first,
        duplicate=duplicate,
        cancel=cancel,
        state=store.read_json(output / "run/status.json")["state"],
        log_odds={path: path.stat().st_mtime_ns for path in output.glob("shadows/*.npy")},
    )


@dataclass(frozen=True, kw_only=True)
class Continued:
    """The second submission, and the metrics that were exported during it, scraped every second."""

    returncode: int
    stdout: str
    stderr: str
    scrapes: list[set[str]]
    """Names of the metrics in each."""
    labels: set[str]
    """Names of the labels of this project's metrics."""


@pytest.fixture(scope="module")
def continued(head: Head, stopped: Stopped) -> Continued:
    scrapes: list[set[str]] = []
    labels: set[str] = set()
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(1):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{head.metrics_port}/metrics", timeout=5) as answer,
            ):
                text = answer.read().decode()
                scrapes.append(set(re.findall(r"^(ray_\w+)[ {]", text, re.MULTILINE)))
                for line in re.findall(r"^ray_ungan_\w+{(.*)}", text, re.MULTILINE):
                    labels.update(re.findall(r"(\w+)=\"", line))

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        process = start_process(head, *submit_words(stopped.output, "--follow"))
        stdout, stderr = process.communicate(timeout=200)
    finally:
        ended.set()
        scraper.join()
    return Continued(returncode=process.returncode, stdout=stdout, stderr=stderr, scrapes=scrapes, labels=labels)


def test_a_run_that_is_active_is_not_submitted_again(stopped: Stopped) -> None:
    id = job_id(stopped.first.stdout)
    assert id.endswith("-1")
    assert stopped.duplicate.returncode == 2
    assert re.search(f"job {id} is (RUNNING|PENDING)", stopped.duplicate.stderr), stopped.duplicate.stderr


def test_a_stopped_job_keeps_its_committed_results(stopped: Stopped) -> None:
    assert stopped.cancel.returncode == 3, stopped.cancel.stderr
    assert f"job {job_id(stopped.first.stdout)}: PARTIAL" in stopped.cancel.stdout
    assert 0 < len(stopped.log_odds) < 4
    assert stopped.state == "PARTIAL"


def test_a_stopped_run_is_continued_to_its_table(head: Head, stopped: Stopped, continued: Continued) -> None:
    assert continued.returncode == 0, continued.stdout[-3000:] + continued.stderr[-3000:]
    first, id = job_id(stopped.first.stdout), job_id(continued.stdout)
    assert id == f"{first[:-2]}-2"
    assert f"job {id}: COMPLETE" in continued.stdout
    # the driver's own progress events arrived
    stages = [line.partition(": ")[0] for line in continued.stdout.splitlines()]
    assert {"original, shadows", "unlearning", "scoring"} <= set(stages)
    table = json.loads((stopped.output / "run/table.json").read_bytes())
    assert table["status"] == "COMPLETE"
    assert table["sizes"]["shadows"] == 8
    assert [row["method"] for row in table["rows"]] == ["original", "retrain", "ungan"]
    assert stopped.log_odds == {path: path.stat().st_mtime_ns for path in stopped.log_odds}, "computed again"
    status = call(head, "status", id)
    assert status.returncode == 0, status.stderr
    assert str(stopped.output / "run") in status.stdout
    assert call(head, "status", first).returncode == 3, "the first attempt stays what it was"
    assert head.token not in continued.stdout + continued.stderr + status.stdout + status.stderr


DECOYS = (".git/config", ".env", "data/images.npy", "runs/old/config.json", ".venv/lib/late.py", "other.py", "key.pem")


@dataclass(frozen=True, kw_only=True)
class Own:
    """A submission of a user's own method from a folder with much else."""

    done: subprocess.CompletedProcess[str]
    output: Path
    arrived: set[str]
    """Names of the files in the job's working folder on the cluster."""
    arguments: set[bytes]
    """The command lines of all processes that were seen during the job."""


@pytest.fixture(scope="module")
def own(head: Head, tmp_path_factory: pytest.TempPathFactory) -> Own:
    project, output = tmp_path_factory.mktemp("project"), head.output / "own"
    for name in DECOYS:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("a decoy")
    (project / "mypackage/deep").mkdir(parents=True)
    (project / "mypackage/__init__.py").write_text("from mypackage.rates import RATE\n")
    (project / "mypackage/rates.py").write_text("RATE = 0.5\n")
    (project / "mypackage/unused.py").write_text("")
    (project / "mypackage/deep/__init__.py").write_text("")
    (project / "mypackage/deep/forget.py").write_text(METHOD)
    (project / "beside.py").write_text("")
    arguments, arrived, ended = set[bytes](), set[str](), threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            for file in head.sessions.glob("ray/session_2*/runtime_resources/working_dir_files/*/beside.py"):
                # bytecode is written there, first as NAME.pyc.NUMBER
                files = [path for path in file.parent.rglob("*") if path.is_file() and ".pyc" not in path.suffixes]
                arrived.update(str(path.relative_to(file.parent)) for path in files)
            for file in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    arguments.add(file.read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        words = submit_words(output, "--follow", "--methods", "original,retrain,mypackage.deep.forget:blend")
        process = start_process(head, *words, "--shadows.num-models", "4", "--train.epochs", "2", folder=project)
        stdout, stderr = process.communicate(timeout=200)
    finally:
        ended.set()
        watcher.join()
    done = subprocess.CompletedProcess(words, process.returncode, stdout, stderr)
    assert done.returncode == 0, stdout[-3000:] + stderr[-3000:]
    return Own(done=done, output=output, arrived=arrived, arguments=arguments)


METHOD = """
import dataclasses

import torch

import beside
from mypackage import RATE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    share: float = RATE


def blend(request, options: Options):
    model = request.copy_original()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(options.share)
    return model
"""


def test_a_module_of_the_users_own_runs_on_the_cluster(own: Own) -> None:
    rows = store.read_json(own.output / "run/table.json")["rows"]
    assert [row["method"] for row in rows] == ["original", "retrain", "mypackage.deep.forget:blend"]


OWN_FILES = {"beside.py", "mypackage/__init__.py", "mypackage/rates.py", "mypackage/deep/__init__.py"}
OWN_FILES |= {"mypackage/deep/forget.py"}


def test_nothing_else_of_the_users_folder_arrives(own: Own) -> None:
    ours = {name for name in own.arrived if name.startswith("ungan_dist/")}
    assert own.arrived - ours == OWN_FILES
    tracked = subprocess.run(
        ["git", "ls-files", "ungan_dist", "kernels", "cluster"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    known = {name if name.startswith("ungan_dist/") else f"ungan_dist/{name}" for name in tracked}
    sent = {name for name in known if name.endswith(".py") or name.startswith("ungan_dist/report/")}
    assert sent - {"ungan_dist/kernels", "ungan_dist/cluster"} <= ours
    assert {Path(name).suffix for name in ours} == {".py", ".json", ".j2", ".js", ".css"}
    assert f"sent along: {', '.join(sorted(OWN_FILES))}" in own.done.stdout


def test_the_token_is_in_no_argument_log_report_or_job(head: Head, own: Own) -> None:
    token = head.token.encode()
    seen = {"arguments": b"\n".join(own.arguments), "output": (own.done.stdout + own.done.stderr).encode()}
    for name, url in (("jobs", "/api/jobs/"), ("nodes", "/nodes?view=summary"), ("actors", "/logical/actors")):
        request = urllib.request.Request(f"{head.address}{url}", headers={"Authorization": f"Bearer {head.token}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            seen[name] = answer.read()
    assert job_id(own.done.stdout).encode() in seen["jobs"]
    assert b"ungan_dist" in seen["arguments"]
    for folder in (head.output, head.sessions):
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        seen |= {str(path): path.read_bytes() for path in files}
    assert len([name for name in seen if "/logs/" in name]) > 10
    assert len([name for name in seen if "/own/run/" in name]) > 10
    assert [name for name, content in seen.items() if token in content] == []
    # the search finds what is there
    assert token in (Path(head.environment["HOME"]) / ".ray/auth_token").read_bytes()


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_metric_of_the_dashboard_is_exported(continued: Continued, panel: dict[str, Any]) -> None:
    names = metrics_of(panel)
    assert names
    if panel["title"].startswith("GPU: ") and not torch.cuda.is_available():
        pytest.skip("no GPU on this machine, so Ray exports no metrics of one")
    assert names <= set().union(*continued.scrapes)


def test_gauges_stay_while_their_values_do(continued: Continued) -> None:
    # Ray drops a gauge that was not set for two of its intervals, which are a second here and ten by default
    during = [names for names in continued.scrapes if "ray_ungan_seconds_without_progress" in names]
    assert len(during) > 5
    for name in ("retries", "quarantined", "workers", "models_per_hour", "output_free_bytes"):
        assert sum(f"ray_ungan_{name}" in names for names in during) > 0.7 * len(during), name


def test_metrics_are_labelled_by_the_machine_alone(continued: Continued) -> None:
    ours = {"node", "le"}  # the second is the bound of a histogram's bucket
    rays = {"Component", "JobId", "NodeAddress", "SessionName", "Version", "WorkerId"}
    rays |= {"otel_scope_name", "otel_scope_version", "otel_scope_schema_url"}
    assert continued.labels
    assert continued.labels <= ours | rays


def test_a_job_that_does_not_fit_on_the_cluster_is_refused_with_the_numbers(head: Head) -> None:
    done = submit(head, head.output / "refused", "--follow", "--fleet.num-workers", "64")
    assert done.returncode == 2, done.stdout
    assert f"job {job_id(done.stdout)}: REFUSED" in done.stdout
    # of the head's three CPUs one is the driver's
    assert "room for 2 workers, but 64 requested" in done.stdout
    assert re.search(r"Its 1 nodes have: 2 CPUs, \d+ GPUs", done.stdout)


def test_a_wrong_and_a_missing_token_are_refused(head: Head, tmp_path: Path) -> None:
    # processes of their own, because Ray reads a token once per process
    wrong = start_process(head, *submit_words(head.output / "never"), RAY_AUTH_TOKEN=secrets.token_hex(32))
    missing = start_process(head, "cancel", "0123456789ab-1", HOME=str(tmp_path), RAY_AUTH_MODE=None)
    for process, reason in (
        (wrong, "the token in RAY_AUTH_TOKEN is wrong"),
        (missing, ".ray/auth_token does not exist"),
    ):
        _, errors = process.communicate(timeout=100)
        assert process.returncode == 2
        assert reason in errors
        assert "ray get-auth-token" in errors
        assert "Traceback" not in errors
    assert not (head.output / "never").exists()


@pytest.mark.parametrize(
    "path",
    ["/api/jobs/", "/nodes?view=summary", "/api/cluster_status", "/api/v0/tasks", "/api/v0/logs", "/logical/actors"],
)
def test_ray_answers_no_stranger(head: Head, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{head.address}{path}", timeout=10)


def test_the_agent_and_the_head_answer_no_stranger(head: Head) -> None:
    job = urllib.request.Request(f"http://127.0.0.1:{head.agent_port}/api/job_agent/jobs/", b'{"entrypoint": "true"}')
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(job, timeout=10)
    assert not accepts_token(f"127.0.0.1:{head.port}", None)
    assert not accepts_token(f"127.0.0.1:{head.port}", "wrong")
    assert accepts_token(f"127.0.0.1:{head.port}", head.token)


def test_what_is_open_shows_no_data(head: Head) -> None:
    for path in ("/", "/api/authentication_mode"):
        with urllib.request.urlopen(f"{head.address}{path}", timeout=10) as answer:
            text = answer.read().decode()
        assert str(head.output) not in text
        assert head.token not in text


@pytest.mark.parametrize("words", [("status",), ("status", "--follow"), ("cancel",)])
def test_an_unknown_job_is_refused(head: Head, words: tuple[str, ...]) -> None:
    name, *options = words
    done = call(head, name, "0123456789ab-7", *options)
    assert done.returncode == 2
    assert "has no job '0123456789ab-7'" in done.stderr
