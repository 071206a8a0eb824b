"""``status``: mistyped names, several runs, and a run that is being prepared."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from in_process import assert_refused, run_command

from ungan_dist import store
from ungan_dist.runs.status import STATUS_FILE, write_status


@pytest.fixture
def runs(output: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``runs`` below the current one, with the run ``digits-0123abcd``."""
    runs = output.rename(output.parent / "runs")
    (runs / "run").rename(runs / "digits-0123abcd")
    monkeypatch.chdir(runs.parent)
    return Path("runs")


@pytest.mark.parametrize("typed", ["runs/digits-0123abc", "runs/digit-0123abcd", "rnus/digits-0123abcd", "digits-0123"])
@pytest.mark.parametrize("command", [["status"], ["verify"], ["report"], ["purge", "--dry-run"]], ids=" ".join)
def test_a_mistyped_run_is_answered_with_the_nearest_one(runs: Path, command: list[str], typed: str) -> None:
    refused = run_command(*command, typed)
    assert_refused(refused, typed)
    assert re.search(r"Did you mean (\S*/)?runs/digits-0123abcd\?", refused.stderr)


def test_a_folder_unlike_any_run_is_answered_with_the_list(runs: Path) -> None:
    refused = run_command("status", "somewhere/else")
    assert_refused(refused, "there is no folder somewhere/else", "ungan-dist runs DIR")
    assert "Did you mean" not in refused.stderr


def test_several_runs_are_shown_and_the_worst_counts(runs: Path) -> None:
    whole, half, failed = (runs / name for name in ("digits-0123abcd", "half", "failed"))
    for copy, state in ((half, "PARTIAL"), (failed, "FAILED")):
        shutil.copytree(whole, copy)
        write_status(copy, state, error="out of luck")
    every = run_command("status", *sorted(runs.iterdir()))  # with data/ and shadows/, as a shell's runs/* has
    assert [line for line in every.stdout.splitlines() if not line.startswith(" ")] == [
        f"{whole}: COMPLETE",
        f"{failed}: FAILED",
        f"{half}: PARTIAL",
    ]
    assert every.returncode == 1
    assert run_command("status", whole, half).returncode == 3
    mixed = run_command("status", whole, "runs/digits-0123abc", half)
    assert mixed.returncode == 2
    assert "Did you mean" in mixed.stderr
    assert f"{half}: PARTIAL" in mixed.stdout
    assert_refused(run_command("status", whole, half, "--follow"), "one job")


def test_a_run_that_is_being_prepared_is_running(output: Path) -> None:
    (output / "run" / STATUS_FILE).unlink()
    assert "run: PARTIAL" in run_command("status", output / "run").stdout
    with store.run_lock(output / "run"):
        shown = run_command("status", output / "run")
    assert shown.returncode == 3
    assert "run: RUNNING\n  it is being prepared" in shown.stdout
