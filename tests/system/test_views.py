"""A request for fewer methods, seeds or shadow models has a report of its own, from the models of the larger run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from damaged_records import rewrite
from in_process import InProcess, run_command
from small_audit import SMALL_OPTIONS, small_config

import ungan_dist
from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import appended
from ungan_dist.runs.finished import find_finished
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.progress import Event
from ungan_dist.runs.status import RunState, current_state, write_status
from ungan_dist.runs.views import list_views, place_view

pytestmark = pytest.mark.process

TABLES = ("table.json", "membership.npy")
"""Files that are equal to those of a run of its own; the other files of a report have times, which are measured."""


def request(output: Path, methods: str, num_seeds: int, num_models: int) -> AuditConfig:
    config = small_config(output, methods=tuple(methods.split(",")), num_seeds=num_seeds)
    return replace(
        config,
        train=replace(config.train, epochs=1),
        shadows=replace(config.shadows, num_models=num_models),
        execution=replace(config.execution, keep_shadow_models=False),
    )


def larger(output: Path) -> AuditConfig:
    return request(output, "original,retrain,fine_tuning,neg_grads", 2, 8)


def view_of(config: AuditConfig) -> Path:
    return Path(config.output) / "run" / place_view(appended(config))


def count(runner: InProcess) -> int:
    return sum(unit.num_models for unit in runner.units)


def options(config: AuditConfig) -> list[str]:
    return [
        *SMALL_OPTIONS,
        *("--train.epochs", "1", "--output", config.output, "--num-seeds", str(config.num_seeds)),
        *("--methods", ",".join(config.methods), "--shadows.num-models", str(config.shadows.num_models)),
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Output folder of a finished larger run without figures; change only copies."""
    output = tmp_path_factory.mktemp("larger")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        audit(larger(output), run_units=InProcess())
        yield output


@pytest.fixture
def whole(finished: Path, tmp_path: Path, without_figures: None) -> Path:
    return shutil.copytree(finished, tmp_path / "out")


@pytest.fixture
def with_view(whole: Path) -> Path:
    """The folder of a view in a finished run."""
    config = request(whole, "original,retrain", 1, 4)
    audit(config, run_units=InProcess())
    return view_of(config)


@pytest.mark.parametrize(
    ("methods", "num_seeds", "num_models"),
    [
        ("original,retrain,fine_tuning,neg_grads", 2, 4),
        ("original,retrain,fine_tuning,neg_grads", 1, 8),
        ("original,neg_grads", 2, 8),
        ("fine_tuning,original,retrain", 1, 6),
        ("neg_grads,fine_tuning,retrain,original", 2, 8),
    ],
)
def test_a_smaller_request_equals_a_run_of_its_own(
    whole: Path, tmp_path: Path, methods: str, num_seeds: int, num_models: int
) -> None:
    before = {name: (whole / "run" / name).read_bytes() for name in (*TABLES, "report.html", "config.json")}
    config = request(whole, methods, num_seeds, num_models)
    runner = InProcess()
    report = audit(config, run_units=runner)
    assert runner.units == []
    assert report.folder == view_of(config)
    assert report.status == "COMPLETE"
    assert [row.method for row in report.rows] == methods.split(",")
    fresh = request(tmp_path / "fresh", methods, num_seeds, num_models)
    alone = InProcess()
    audit(fresh, run_units=alone)
    assert count(alone) == num_seeds * len(config.methods) + num_models
    for name in TABLES:
        assert (view_of(config) / name).read_bytes() == (tmp_path / "fresh/run" / name).read_bytes(), name
    assert {name: (whole / "run" / name).read_bytes() for name in before} == before
    assert find_finished(config) is not None
    assert run_command("verify", whole / "run").stdout == "COMPLETE\n"


def test_only_what_a_request_needs_is_trained(tmp_path: Path, without_figures: None) -> None:
    stopped, smaller, again = InProcess(interrupted_after=2), InProcess(), InProcess()
    with pytest.raises(KeyboardInterrupt):
        audit(larger(tmp_path), run_units=stopped)
    config, plans = request(tmp_path, "original,retrain", 1, 6), list[Event]()
    expected = run_command("plan", "digits", "--no-probe", *options(config))
    assert "7 to train or unlearn, 1 done; 6 of them shadow models, 0 done" in expected.stdout
    report = audit(config, run_units=smaller, on_progress=plans.append)
    assert (count(stopped), count(smaller)) == (2, 7)
    assert report.status == "COMPLETE"
    plan = next(event.note for event in plans if event.stage == "plan")
    assert plan == f"8 models (6 shadow), 1 done; {view_of(config)}"
    assert current_state(tmp_path / "run") is RunState.PARTIAL
    assert audit(larger(tmp_path), run_units=again).status == "COMPLETE"
    ids = [unit.id for unit in (*stopped.units, *smaller.units, *again.units)]
    assert len(ids) == len(set(ids))
    assert count(stopped) + count(smaller) + count(again) == 16
    assert run_command("verify", tmp_path / "run").stdout == "COMPLETE\n"


def test_a_request_beside_the_run_trains_no_method_of_the_run(whole: Path) -> None:
    runner, config = InProcess(), request(whole, "original,retrain,random_labels", 3, 4)
    audit(config, run_units=runner)
    assert sorted(unit.title for unit in runner.units) == [
        *("original, seed 2", "random_labels, seed 0", "random_labels, seed 1", "random_labels, seed 2"),
        "retrain, seed 2",
    ]
    wider = request(whole, "original,retrain", 1, 12)
    assert audit(wider, run_units=(more := InProcess())).sizes["shadows"] == 12
    assert count(more) == 4
    assert store.read_record(whole / "run/config.json")["appended"] == appended(larger(whole))
    assert run_command("verify", whole / "run").stdout == "COMPLETE\n"
    assert run_command("verify", "--quick", whole / "run").stdout == "COMPLETE\n"


def test_a_larger_request_keeps_the_earlier_report(with_view: Path, whole: Path) -> None:
    before = {name: (whole / "run" / name).read_bytes() for name in TABLES}
    of_view = {name: (with_view / name).read_bytes() for name in TABLES}
    more, runner = request(whole, "retrain,original,fine_tuning,neg_grads,random_labels", 2, 8), InProcess()
    assert [row.method for row in audit(more, run_units=runner).rows] == list(more.methods)
    assert count(runner) == 2
    kept = view_of(larger(whole))
    assert {name: (kept / name).read_bytes() for name in TABLES} == before
    assert {name: (with_view / name).read_bytes() for name in TABLES} == of_view
    for config, folder in (
        (more, whole / "run"),
        (larger(whole), kept),
        (request(whole, "original,retrain", 1, 4), with_view),
    ):
        found = find_finished(config)
        assert found is not None
        assert found.folder == folder
    for command in (["verify"], ["verify", "--quick"]):
        for folder in (whole / "run", kept, with_view):
            assert run_command(*command, folder).stdout == "COMPLETE\n"


def test_an_unfinished_report_is_not_kept(whole: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        audit(replace(larger(whole), num_seeds=3), run_units=InProcess(interrupted_after=1))
    with pytest.raises(KeyboardInterrupt):
        audit(replace(larger(whole), num_seeds=4), run_units=InProcess(interrupted_after=1))
    assert list_views(whole / "run") == [place_view(appended(larger(whole)))]


def test_commands_name_every_report(with_view: Path, whole: Path) -> None:
    smaller, own = request(whole, "original,retrain", 1, 4), larger(whole)
    again = run_command("run", "digits", *options(smaller))
    assert f"report: {with_view / 'report.html'}" in again.stdout
    assert "the run's own report has 8 shadow models, 2 seeds, 4 methods" in again.stdout
    assert run_command("report", with_view).stdout == again.stdout
    assert "other reports of this run: 1" in run_command("run", "digits", *options(own)).stdout
    place = with_view.relative_to(whole / "run")
    assert f"{place}: COMPLETE; 4 shadow models, 1 seed, 2 methods" in run_command("status", whole / "run").stdout
    assert run_command("status", with_view).stdout.startswith(f"{with_view}: COMPLETE\n")
    assert f"  {place}" in run_command("runs", whole).stdout
    assert ungan_dist.load(with_view, "retrain").training is False
    absent = run_command("report", with_view.with_name("9-shadows-1-seed-01234567"))
    assert absent.returncode == 2
    assert with_view.name in absent.stderr
    assert f"purge {whole / 'run'}" in run_command("purge", with_view).stderr


def test_verify_finds_a_damaged_file_of_a_view(with_view: Path, whole: Path) -> None:
    names = [*TABLES, "table.md", "report.html", "report.json", "membership.json"]
    names += ["request.json", "status.json", "finished.json"]
    swapped = ["table.json", "report.json", "finished.json"]
    intact = {name: (with_view / name).read_bytes() for name in names}
    damages = {name: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:] for name, content in intact.items()}
    swaps = {name: (whole / "run" / name).read_bytes() for name in swapped}
    for name, content in (*damages.items(), *swaps.items()):
        (with_view / name).write_bytes(content)
        for options in [[], ["--quick"]] if content == damages[name] else [[]]:
            found = run_command("verify", *options, with_view)
            assert (found.returncode, found.stdout) == (1, "CORRUPT\n"), name
            assert with_view.name in found.stderr
        (with_view / name).write_bytes(intact[name])
    assert run_command("verify", with_view).stdout == "COMPLETE\n"
    for name, content in damages.items():
        (with_view / name).write_bytes(content)
    (with_view / "request.json").unlink()
    found = run_command("verify", whole / "run")
    assert found.returncode == 1
    assert f"{with_view / 'request.json'} is missing" in found.stderr
    smaller = request(whole, "original,retrain", 1, 4)
    assert audit(smaller, run_units=(runner := InProcess())).status == "COMPLETE"
    assert runner.units == []
    assert run_command("verify", whole / "run").stdout == "COMPLETE\n"
    assert {name: (with_view / name).read_bytes() for name in TABLES} == {name: intact[name] for name in TABLES}


def test_a_purge_treats_every_report(with_view: Path, whole: Path) -> None:
    assert run_command("purge", whole / "run").returncode == 0
    left = {str(path.relative_to(with_view)) for path in with_view.rglob("*") if path.is_file()}
    assert left == {
        "table.json",
        "table.md",
        "timings.json",
        "report.html",
        "report.json",
        "request.json",
        "status.json",
    }
    assert "were removed" in (with_view / "report.html").read_text()
    assert run_command("verify", with_view).stdout == "PURGED\n"
    assert run_command("run", "digits", *options(request(whole, "original,retrain", 1, 4))).returncode == 2


def test_a_purge_names_a_view_behind_a_link(with_view: Path, whole: Path) -> None:
    elsewhere = whole.parent / "elsewhere"
    shutil.move(with_view, elsewhere)
    with_view.symlink_to(elsewhere)
    for command in (["report"], ["verify", "--quick"], ["status"]):
        assert run_command(*command, with_view).returncode == 0, command
    assert run_command("verify", whole / "run").stdout == "COMPLETE\n"
    purged = run_command("purge", whole / "run")
    assert purged.returncode == 3
    assert f"{with_view} is a symbolic link to {elsewhere}" in purged.stderr
    assert "were removed" not in (elsewhere / "report.html").read_text()


def test_a_locked_run_refuses_its_views_and_a_killed_one_is_partial(with_view: Path, whole: Path) -> None:
    smaller = request(whole, "original,retrain", 2, 4)
    with store.run_lock(whole / "run"):
        assert run_command("run", "digits", *options(smaller)).returncode == 2
        assert current_state(with_view) is RunState.COMPLETE
    write_status(with_view, RunState.RUNNING)  # its driver was killed
    rewrite(with_view / "status.json", pid=2**22)
    assert current_state(with_view) is RunState.PARTIAL
    assert current_state(whole / "run") is RunState.COMPLETE
    audit(smaller, run_units=InProcess())
    assert store.read_record(with_view / "status.json")["state"] == "PARTIAL"
    assert current_state(view_of(smaller)) is RunState.COMPLETE


@pytest.mark.parametrize(
    "changed",
    [
        {"methods": ["original", "method_of_a_later_version"]},
        {"methods": ["retrain"]},
        {"methods": "original"},
        {"num_seeds": "1"},
        {"shadows.num_models": 1},
    ],
)
def test_a_view_of_another_version_harms_no_other_report(changed: dict[str, object], whole: Path) -> None:
    run, extent = whole / "run", {"methods": ["original"], "num_seeds": 1, "shadows.num_models": 4} | changed
    view = run / place_view(extent)
    store.write_record(view / "request.json", extent)
    assert "CORRUPT" in run_command("runs", whole).stdout
    found = run_command("report", view)
    assert (found.returncode, "Traceback" in found.stderr) == (1, False)
    assert str(view / "request.json") in found.stderr
    assert run_command("verify", run).stdout == "CORRUPT\n"
    assert run_command("report", run).returncode == 0
    assert run_command("purge", run).returncode == 0
