"""No command repeats a secret of its own command line, and none writes control characters of a run to the terminal."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from damaged_records import rewrite
from in_process import run_command

SECRET = "hunter2"
URLS = [
    *(f"s3://me:{SECRET}@bucket/runs/run", f"S3://me:{SECRET}@bucket/runs/run", f"s3:/me:{SECRET}@bucket/runs/run"),
    *(f"s3//me:{SECRET}@bucket/run", f"https://me:{SECRET}@host/run", f"abfs://container/run?sas={SECRET}"),
    *(f"s3://bucket/run?region=x&secret_key={SECRET}", f"s3://bucket/run?endpoint_override=http://a:{SECRET}@b"),
    f"gs://bucket/run#sig={SECRET}",
]
COMMANDS = [
    *(["verify", "URL"], ["verify", "--quick", "URL"], ["report", "URL"], ["status", "URL"], ["purge", "URL"]),
    *(["runs", "URL"], ["runs", "--remove", "URL", "--yes"], ["plan", "digits", "--output", "URL"]),
    *(
        ["run", "digits", "--output", "URL"],
        ["run", "digits", "--output=URL"],
        ["prepare", "digits", "--output", "URL"],
    ),
    *(["run", "custom", "--model", "a:b", "--source.path", "URL"], ["run", "digits", "--cluster", "URL"]),
    *(["run", "custom", "--model", "a:b", "--source.path", ".", "--original", "URL"], ["doctor", "--output", "URL"]),
    *(["submit", "digits", "--output", "URL"], ["submit", "digits", "--output", "/runs", "--address", "URL"]),
    ["cancel", "0123456789ab-1", "--address", "URL"],
]


@pytest.mark.parametrize("url", URLS)
def test_a_secret_is_refused_and_not_repeated(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in COMMANDS:
        done = run_command(*(word.replace("URL", url) for word in words))
        assert done.returncode == 2, words
        assert SECRET not in done.stdout + done.stderr, words
        assert "which every list of processes shows" in done.stderr, words
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["s3:/bucket/runs", "s3:bucket/runs", "--output=gs:/bucket"])
def test_a_url_of_storage_with_a_missing_slash_is_refused(word: str) -> None:
    words = [word] if word.startswith("--") else ["--output", word]
    done = run_command("run", "digits", *words)
    assert done.returncode == 2
    assert "://BUCKET/PATH" in done.stderr


@pytest.mark.parametrize(
    "word", ["registry:5000/team/image:2@sha256:0", "a:b@c", "s3://bucket/p?region=x&design=1", "C:/x", "s3:build"]
)
def test_other_words_are_not_taken_for_secrets(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    printed = run_command("verify", "--quick", word).stderr
    assert "list of processes" not in printed
    assert "BUCKET" not in printed


def test_prepare_writes_no_folder_for_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_command("prepare", "digits", "--output", "s3://bucket/runs")
    assert done.returncode == 2
    assert "prepare writes a folder" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("without_figures")
def test_control_characters_of_a_run_do_not_reach_the_terminal(output: Path) -> None:
    run = output / "a\x1b[2Jb"
    (output / "run").rename(run)
    shutil.copy(run / "table.md", run / "c\x1b]0;title\x07d.md")
    rewrite(run / "status.json", error="\x1b[31m", failed=["\x1b[5m"])
    (run / "membership.npy").write_bytes(b"")
    printed = ""
    commands = (["verify", run], ["verify", "--quick", run], ["status", run], ["runs", output], ["report", run])
    for words in (*commands, ["purge", "--dry-run", run], ["purge", run], ["status", run], ["report", run]):
        done = run_command(*words)
        assert "Traceback" not in done.stderr
        printed += done.stdout + done.stderr
    assert printed.count("\\x1b") > 5
    assert all(character in "\n\t" or character.isprintable() for character in printed)
