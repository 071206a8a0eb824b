"""``--until decided``: looks that are stated first, killed and continued, and shown in every report."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import jsonschema
import pytest
from in_process import InProcess, assert_refused, run_command
from small_audit import SMALL_OPTIONS, small_config

import ungan_dist
from ungan_dist import store
from ungan_dist.attack.evidence import Report
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import BudgetConfig
from ungan_dist.runs.looks import NOT_A_LOOK, STOPPING_FILE, audit_in_looks, list_looks
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.progress import Event

SCHEMA = Path(ungan_dist.__file__).parent / "report/table.schema.json"
pytestmark = pytest.mark.usefixtures("without_figures")
OPTIONS = [*SMALL_OPTIONS, "--num-seeds", "3", "--until", "decided"]


def config(output: Path, max_hours: float | None = None) -> AuditConfig:
    """The small audit in two looks, of three and of five seeds."""
    budget = BudgetConfig(max_seeds=5, max_hours=max_hours)
    return small_config(output, num_seeds=3, until="decided", budget=budget)


def make_looks(output: Path, runner: InProcess, max_hours: float | None = None) -> Report:
    return audit_in_looks(config(output, max_hours), functools.partial(audit, run_units=runner))


@pytest.fixture(scope="module")
def ended(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run of one seed, continued until the budget ends; so small a run decides nothing."""
    output = shutil.copytree(finished_run, tmp_path_factory.mktemp("looks") / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        report = make_looks(output, InProcess())
    assert report.status == "COMPLETE"
    assert report.stopping is not None
    assert (report.stopping.index, report.stopping.ended) == (1, "looks")
    return output


def test_each_look_begins_with_its_size_its_level_and_its_reason(finished_run: Path, tmp_path: Path) -> None:
    output = shutil.copytree(finished_run, tmp_path / "out")
    notes: list[Event] = []
    audit_in_looks(config(output), functools.partial(audit, run_units=InProcess(), on_progress=notes.append))
    lines = [event.note for event in notes if event.stage == "until decided"]
    size = "4 shadow models; intervals at 95 %)"
    assert lines == [f"look 1 of 2 (3 seeds, {size}", f"look 2 of 2 (5 seeds, {size}: because UnGAN is undecided"]
    first, second = [event for event in notes if event.stage == "plan" and "expected" in event.note]
    assert first.note.startswith("expected 95 % interval")
    assert first.note.endswith("If rows are undecided, the next look follows")
    assert not first.is_warning
    assert second.note.endswith("or expect inconclusive verdicts")
    assert second.is_warning


def read_tables(output: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (output / "run").rglob("table.json")}


def test_the_path_is_in_every_report(ended: Path) -> None:
    run = ended / "run"
    table = store.read_json(run / "table.json")
    jsonschema.validate(table, store.read_json(SCHEMA))
    path = table["stopping"]
    assert [(look["num_seeds"], look["num_shadows"], look["level"]) for look in path["looks"]] == [
        (3, 4, 0.95),
        (5, 4, 0.95),
    ]
    assert all(look["undecided"] for look in path["looks"])
    assert path["earlier"] == ["4 shadow models, 1 seed, 3 methods"]
    rows = {row["method"]: row for row in table["rows"]}
    gap, attacks = rows["ungan"]["verdict"]["gap"], rows["ungan"]["attacks"]
    assert (gap["level"], len(gap["per_seed"])) == (0.95, 5)
    assert attacks["lira"]["corrected_gap"]["level"] == pytest.approx(0.975)
    [view] = run.glob("reports/4-shadows-3-seeds-*")
    first = store.read_json(view / "table.json")["stopping"]
    assert (first["index"], first["ended"], first["looks"][1]["undecided"]) == (0, "", None)
    shown = " ".join(run_command("report", run).stdout.split())
    for text in (shown, (run / "table.md").read_text(), (run / "report.html").read_text()):
        assert "Look 2 of 2, all stated before the first." in text
        assert "Look 1: 3 seeds, 4 shadow models, undecided: UnGAN." in text
        assert "This was the last look, so the run ended." in text
    assert "95 % interval" in shown


def test_a_run_that_is_stopped_anywhere_makes_the_same_looks(ended: Path, finished_run: Path, tmp_path: Path) -> None:
    output = shutil.copytree(finished_run, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):  # within the first look
        make_looks(output, InProcess(interrupted_after=2))
    report = make_looks(output, InProcess(), max_hours=1e-9)
    assert report.stopping is not None
    assert (report.stopping.index, report.stopping.ended) == (0, "hours")
    assert run_command("verify", output / "run").stdout == "COMPLETE\n"
    with pytest.raises(KeyboardInterrupt):  # within the second, for which more time was given
        make_looks(output, InProcess(interrupted_after=4))
    rest = InProcess()
    make_looks(output, rest)
    assert len(rest.units) == 2  # six targets of two seeds, without the four before
    assert read_tables(output) == read_tables(ended)
    assert run_command("verify", output / "run").stdout == "COMPLETE\n"


def test_the_same_command_prints_the_last_look_and_other_looks_are_refused(ended: Path, tmp_path: Path) -> None:
    output = shutil.copytree(ended, tmp_path / "out")
    same = ["run", "digits", "--output", output, *OPTIONS, "--budget.max-seeds", "5"]
    shown = run_command(*same, "--budget.max-hours", "3")
    assert shown.returncode == 0, shown.stderr
    assert "Look 2 of 2" in " ".join(shown.stdout.split())
    planned = run_command("plan", "digits", "--output", output, *OPTIONS, "--budget.max-shadows", "8", "--no-probe")
    looks = "3 seeds and 4 shadow models at 98.75 %, 6 seeds and 4 shadow models at 98.75 %, 12 seeds"
    assert looks in planned.stdout, planned.stderr
    assert_refused(run_command(*same[:-1], "6"), "begun with other looks", "5 seeds and 4 shadow models of original")
    other = run_command("run", "digits", "--output", output, *SMALL_OPTIONS, "--num-seeds", "4")
    assert other.returncode == 0, other.stderr
    assert NOT_A_LOOK in " ".join(other.stdout.split())
    assert "of several" not in other.stdout
    assert run_command("verify", output / "run").stdout == "COMPLETE\n"


def test_a_damaged_record_of_looks_is_found(ended: Path, tmp_path: Path) -> None:
    output = shutil.copytree(ended, tmp_path / "out")
    path = output / "run" / STOPPING_FILE
    path.write_text(path.read_text().replace('"looks"', '"decided"', 1))
    for verify in (["verify"], ["verify", "--quick"]):
        verified = run_command(*verify, output / "run")
        assert (verified.returncode, verified.stdout) == (1, "CORRUPT\n"), verified.stderr
        assert STOPPING_FILE in verified.stderr


def test_a_purge_keeps_the_looks(ended: Path, tmp_path: Path) -> None:
    output = shutil.copytree(ended, tmp_path / "out")
    assert run_command("purge", output / "run").returncode == 0
    assert (output / "run" / STOPPING_FILE).read_bytes() == (ended / "run" / STOPPING_FILE).read_bytes()


def test_a_run_without_undecided_rows_ends_with_its_first_look(finished_run: Path, tmp_path: Path) -> None:
    output = shutil.copytree(finished_run, tmp_path / "out")
    runner = InProcess()
    both = small_config(output, num_seeds=3, until="decided", methods=("original", "retrain"))
    assert [look.num_seeds for look in list_looks(both)] == [3, 6, 12]
    report = audit_in_looks(both, functools.partial(audit, run_units=runner))
    assert report.stopping is not None
    assert (report.stopping.index, report.stopping.ended, len(runner.units)) == (0, "decided", 4)
