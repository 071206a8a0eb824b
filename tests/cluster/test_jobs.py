"""Submission without a cluster: identity, what is sent, and the outcome of a job."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ray.job_submission import JobDetails, JobStatus, JobType

from ungan_dist import store
from ungan_dist.cluster.jobs import judge_job
from ungan_dist.cluster.secret_lint import find_secrets
from ungan_dist.cluster.shipped import copy_code, list_own_files, list_package_files
from ungan_dist.cluster.submit import prepare_submission, submit_job
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
    with pytest.raises(ConfigError, match=r"source.path must be an absolute path .* 'pictures'"):
        prepare("--source.path", "pictures")


def test_the_name_of_weights_in_a_file_is_no_path() -> None:
    given = {"original": "/shared/weights.pt", "original-key": "ema", "forget": "/shared/forget.csv"}
    words = [word for name, value in given.items() for word in (f"--given.{name}", value)]
    assert "--given.original-key ema" in prepare(*words, "--num-seeds", "1").entrypoint


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
    with copy_code({}) as code:
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


@pytest.mark.parametrize(
    "name",
    [
        *(".git/config", ".env", ".secret.py", "__pycache__/a.py", "runs/table.json", "data/images.npy", "id_rsa"),
        *("digits-01/mine.py", ".venv/a.py", "report/.hidden.json", "report/old/table.json.bak", "cluster/key.pem"),
        "cluster/manifests/kuberay/mine.yaml",
    ],
)
def test_what_is_not_on_the_allowlist_is_not_sent(tmp_path: Path, name: str) -> None:
    package = tmp_path / "ungan_dist"
    for inner in ("cli.py", "report/table.schema.json", name):
        (package / inner).parent.mkdir(parents=True, exist_ok=True)
        (package / inner).write_text("")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/data.py").write_text("")
    (package / "link").symlink_to(tmp_path / "elsewhere")
    assert set(list_package_files(package)) == {"ungan_dist/cli.py", "ungan_dist/report/table.schema.json"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in list(sys.modules):
        if name.startswith("sent_"):
            monkeypatch.delitem(sys.modules, name)
    return tmp_path


def list_sent(*options: str) -> set[str]:
    config = recipe_config(["digits", *options, "--output", "/shared"], command="submit")
    return set(list_own_files(config))


def test_every_function_that_an_option_names_is_sent_with_what_it_imports(project: Path) -> None:
    for name, text in (
        ("sent_method.py", "def forget(request):\n    import sent_late\n"),
        ("sent_late.py", ""),
        ("sent_train.py", "def fit(): ..."),
        ("sent_augment.py", "import json, torch\ndef make(): ..."),
        ("sent_model.py", "import torch\nclass Net(torch.nn.Module): ..."),
        ("sent_never.py", ""),
    ):
        (project / name).write_text(text)
    found = list_sent(
        *("--methods", "original,retrain,sent_method:forget", "--train.function", "sent_train:fit"),
        *("--train.augment.factory", "sent_augment:make", "--model.factory", "sent_model:Net"),
    )
    assert found == {f"sent_{name}.py" for name in ("method", "late", "train", "augment", "model")}


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_linked_module_is_sent_under_the_name_by_which_it_is_imported(
    project: Path, tmp_path_factory: pytest.TempPathFactory, is_folder: bool
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "fit_v3.py").write_text("import sent_used\ndef fit(): ...")
    (elsewhere / "__init__.py").write_text("")
    (project / "sent_used.py").write_text("")
    if is_folder:
        (project / "sent_folder").symlink_to(elsewhere)
        assert list_sent("--train.function", "sent_folder.fit_v3:fit") == {
            "sent_folder/__init__.py",
            "sent_folder/fit_v3.py",
            "sent_used.py",
        }
    else:
        (project / "sent_link.py").symlink_to(elsewhere / "fit_v3.py")
        assert list_sent("--train.function", "sent_link:fit") == {"sent_link.py", "sent_used.py"}


@pytest.mark.parametrize("factory", ["timm:test_vit", "torchvision:resnet18", "json:loads", "sent_nowhere:make"])
def test_installed_and_absent_modules_are_not_sent(project: Path, factory: str) -> None:
    assert list_sent("--model.factory", factory) == set()


def test_a_module_with_a_secret_is_refused_by_its_name(project: Path) -> None:
    (project / "sent_leak.py").write_text(f"KEY = '{'AKIA' + 'ABCDEFGH12345678'}'\ndef fit(): ...")
    with pytest.raises(ConfigError, match=r"sent_leak.py contains a cloud access key") as refused:
        list_sent("--train.function", "sent_leak:fit")
    assert "ABCDEFGH" not in str(refused.value)


def test_a_module_that_raises_is_refused(project: Path) -> None:
    (project / "sent_broken.py").write_text("1 / 0")
    with pytest.raises(ConfigError, match="importing sent_broken:fit raised ZeroDivisionError"):
        list_sent("--model.factory", "sent_broken:fit")


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
