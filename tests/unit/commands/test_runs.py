"""``runs``: what the list shows, names that are markup, and the question before a removal."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from in_process import assert_refused, run_command

from ungan_dist import store
from ungan_dist.commands.runs import COLUMNS

EVIL = "[red]a[link=x]\x1b[31m\u202e\x07<b>"


def test_the_list_has_state_date_model_counts_verdicts_and_size(output: Path) -> None:
    heading, line, *shared = run_command("runs", output).stdout.splitlines()
    assert heading.split() == list(COLUMNS)
    rows = store.read_json(output / "run/table.json")["rows"]
    outcomes = [row["verdict"]["outcome"] for row in rows if row["method"] == "ungan"]
    for cell in (
        "COMPLETE",
        "small_cnn",
        " 4 ",
        " 1 ",
        " 3 ",
        *(f"{outcomes.count(name)} {name}" for name in outcomes),
    ):
        assert cell in line
    assert len([line for line in shared if " shared " in line]) == 2


def test_the_list_as_json_is_complete(output: Path) -> None:
    listed = json.loads(run_command("runs", output, "--json").stdout)
    (run,) = listed["runs"]
    rows = store.read_json(output / "run/table.json")["rows"]
    assert run["verdicts"] == {row["method"]: row["verdict"]["outcome"] for row in rows}
    assert (run["run"], run["state"], run["shadows"], run["seeds"]) == ("run", "COMPLETE", 4, 1)
    files = [path for path in (output / "run").rglob("*") if path.is_file()]
    assert run["bytes"] == sum(path.stat().st_size for path in files)
    assert set(listed["shared"]) == {"shadows", "data"}


def test_names_are_printed_literally(output: Path) -> None:
    (output / "run").rename(output / EVIL)
    for words in (["runs", output], ["status", output / EVIL], ["runs", output, "--remove", EVIL]):
        result = run_command(*words)
        shown = result.stdout + result.stderr
        assert "[red]a[link=x]\\x1b[31m\\u202e\\x07<b>" in shown
        assert not set(shown) & set("\x1b\u202e\x07")
    assert json.loads(run_command("runs", output, "--json").stdout)["runs"][0]["run"] == EVIL
    (output / "verify").mkdir()
    assert_refused(run_command("verify", output / "verify\x1b[2J"), "verify\\x1b[2J")


def test_damaged_reports_and_records_are_still_listed(output: Path) -> None:
    shutil.copytree(output / "run", output / "broken")
    (output / "run/table.json").write_text('{"rows": [7]}')
    (output / "broken/config.json").write_text("{")
    lines = run_command("runs", output).stdout
    assert "CORRUPT" in lines
    assert "COMPLETE" in lines


def test_a_removal_without_a_terminal_needs_yes(output: Path) -> None:
    refused = run_command("runs", output, "--remove", "run")
    assert_refused(refused, "--yes", f"ungan-dist runs {output} --remove run --yes", "COMPLETE", "3 rows", "3 models")
    assert (output / "run/config.json").exists()
    removed = run_command("runs", output, "--remove", "run", "--yes")
    assert removed.returncode == 0
    assert removed.stdout.startswith(f"removed {output / 'run'} (")
    assert not (output / "run").exists()
    assert list(output.glob("shadows/*.npy"))


def test_a_run_with_a_driver_is_not_removed(output: Path) -> None:
    with store.run_lock(output / "run"):
        assert_refused(run_command("runs", output, "--remove", "run", "--yes"), "at work")
    assert (output / "run/config.json").exists()


@pytest.mark.parametrize(("answer", "is_kept"), [(b"n\n", True), (b"\n", True), (b"\x04", True), (b"y\n", False)])
def test_a_removal_asks_on_a_terminal(output: Path, answer: bytes, is_kept: bool) -> None:
    command = [sys.executable, "-m", "ungan_dist", "runs", output, "--remove", "run"]
    outer, inner = pty.openpty()
    with subprocess.Popen(command, stdin=inner, stderr=inner, stdout=subprocess.PIPE, text=True) as process:
        os.close(inner)
        shown = b""
        while not shown.endswith(b"[y/N] "):
            shown += os.read(outer, 1024)
        os.write(outer, answer)
        stdout, _ = process.communicate(timeout=30)
    os.close(outer)
    assert b"3 rows, 3 models" in shown
    assert process.returncode == 0
    assert stdout.startswith("kept" if is_kept else "removed")
    assert (output / "run").exists() is is_kept
