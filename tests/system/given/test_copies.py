"""Copies of forget examples on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from custom_audit import PER_CLASS, custom_arguments
from in_process import assert_refused, run_command

from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.record import read_run

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def copied(pictures: Path, lists: Path) -> Path:
    """The pictures with three copies among the members and one beside them; the lists name files."""
    root = shutil.copytree(pictures, lists / "pictures")
    forget = [f"class{label:02}/{number:02}.png" for label in range(20) for number in range(2)]
    members = [f"class{label:02}/{number:02}.png" for label in range(20) for number in range(10)]
    for label in range(4):
        name = f"class{label:02}/99 - Copy.png"
        shutil.copy(root / f"class{label:02}/00.png", root / name)
        members += [name] if label < 3 else []
    (lists / "forget.csv").write_text("id\n" + "\n".join(forget))
    (lists / "members.csv").write_text("id\n" + "\n".join(members))
    assert len(members) == 20 * 10 + 3 < 20 * PER_CLASS
    return root


@pytest.mark.process
def test_copies_are_counted_in_the_report_and_named_on_the_terminal(copied: Path, lists: Path) -> None:
    arguments = custom_arguments(copied, lists, "--members", str(lists / "members.csv"))
    arguments += ["--methods", "original,retrain"]
    run = lists / "out/run"
    for _ in range(2):  # the second prints the finished run
        done = run_command("run", *arguments)
        assert done.returncode == 0, done.stderr
        assert "warning: 4 of 40 forget examples have the same pixels as other examples" in done.stderr
        assert "3 have copies in the retain set, 1 among examples never trained on" in done.stderr
        assert "class00/00.png, class01/00.png" in done.stderr
    for name in ("report.html", "table.md"):
        text = (run / name).read_text()
        assert "4 of 40 forget examples have the same pixels" in text
        assert "class00/00.png" not in text
    plain = make_plan(read_run(run).config)
    also = ["--forget-copies", "also", "--execution.run-name", "also"]
    done = run_command("run", *arguments, *also)
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of 43 forget examples have the same pixels" in done.stderr
    assert "0 have copies in the retain set, 1 among" in done.stderr
    assert "3 examples with the same pixels" in (lists / "out/also/report.html").read_text()
    plan = make_plan(read_run(lists / "out/also").config)
    forget = plan.split.pool[plan.draws[0].forget]
    assert len(forget) == 43
    assert np.isin(plain.split.pool[plain.draws[0].forget], forget).all()
    assert [unit.id for unit in plan.shadows] == [unit.id for unit in plain.shadows]
    assert run_command("verify", lists / "out/also").stdout == "COMPLETE\n"


def test_copies_are_added_without_a_list_of_members(copied: Path, lists: Path) -> None:
    done = run_command("plan", *custom_arguments(copied, lists, "--forget-copies", "also"), "--no-probe")
    assert done.returncode == 0, done.stderr
    assert "44 forget examples," in done.stdout


def test_forget_copies_needs_a_list() -> None:
    assert_refused(run_command("run", "custom", "--forget-copies", "also"), "--forget-copies also", "--forget")
