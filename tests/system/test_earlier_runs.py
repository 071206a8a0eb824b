"""A run that an earlier version finished is reported and verified, and continued by the versions that train alike.

``fixtures/finished-0.1.0.tar.xz`` is the output folder of `run digits` with ``small_audit.SMALL_OPTIONS`` at commit
aa419de, without figures and ``report.html``, which a report writes again.
"""

from __future__ import annotations

import copy
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import InProcess, assert_refused, run_command
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist import load, store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.report.table_json import SCHEMA_VERSION, has_same_measurements
from ungan_dist.runs.finished import FINISHED_FILE
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan, reopen_plan
from ungan_dist.runs.record import read_run
from ungan_dist.runs.views import REPORT_FILE

ARCHIVE = Path(__file__).parent / "fixtures/finished-0.1.0.tar.xz"
SAME_TRAINING = ARCHIVE.with_name("finished-3.tar.xz")
"""The same with results version 3."""
TARGETS = {
    "original": "af813aab8f5d346f051ffad5e3e00244cace0d21ac1845f599a974c0a1764b77",
    "retrain": "023df8977df1eb31d7741545874f446e195964ca6611f78142f01b72f09723c5",
    "ungan": "80c62872def31bd579747c5e3b42b145cc6aa0e7b958d1cd5217314f278b2ada",
    "fine_tuning": "dc351d56b2b6cf3411a16bcdf14692b1b1b78edd1bfe9905f01f1c38cb462de4",
}
SHADOWS = ["ddc2f41f89fb43f296428dab1b6689a4", "aa13abf7d41427d998589abd868920e2", "3ff65c684ad9dfcdece43c52adde877d"]
"""Unit ids that the earlier version gives the run, extended by one method and two shadow models."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture
def earlier(unpacked: Path, tmp_path: Path) -> Path:
    return shutil.copytree(unpacked, tmp_path / "out")


def _commit_table(run: Path, table: bytes) -> None:
    """Commit a report whose table is that of the earlier version, which no report has written again."""
    marker = store.read_marker(run / REPORT_FILE)
    files = {name: (run / name).read_bytes() for name in marker["files"]} | {"table.json": table}
    (run / FINISHED_FILE).unlink(missing_ok=True)
    store.commit(run, REPORT_FILE, id=store.hash_files(files), files=files, facts=marker["facts"])


def test_an_earlier_run_is_verified_and_reported_with_the_same_measurements(earlier: Path) -> None:
    before = store.read_json(earlier / "run/table.json")
    table = (earlier / "run/table.json").read_bytes()
    reported = run_command("report", earlier / "run")
    assert reported.returncode == 0, reported.stderr
    after = store.read_json(earlier / "run/table.json")
    assert (before["schema_version"], after["schema_version"]) == (1, SCHEMA_VERSION)
    assert has_same_measurements(before, after)
    assert (earlier / "run/report.html").is_file()
    verified = run_command("verify", earlier / "run")
    assert (verified.returncode, verified.stdout) == (0, "COMPLETE\n"), verified.stderr
    assert "COMPLETE" in run_command("status", earlier / "run").stdout
    assert not load(earlier / "run", "ungan").training
    for version in (b"1", b"4"):
        _commit_table(earlier / "run", table.replace(b'"schema_version": 1', b'"schema_version": ' + version))
        verified = run_command("verify", earlier / "run")
        assert (verified.returncode, verified.stdout) == (0, "COMPLETE\n"), verified.stderr
    _commit_table(earlier / "run", table.replace(b'"forget": 40', b'"forget": 41'))
    verified = run_command("verify", earlier / "run")
    assert (verified.returncode, verified.stdout) == (1, "CORRUPT\n")
    assert "differs from the table of the stored log-odds" in verified.stderr
    for name in ("auc", "accuracy", "sizes"):
        changed = copy.deepcopy(before)
        if name == "sizes":
            changed["sizes"]["forget"] += 1
        else:
            cell = changed["rows"][0][name]
            (cell if name == "auc" else cell["test"])["per_seed"][0] += 1e-6
        assert not has_same_measurements(changed, after)


def test_the_units_of_an_earlier_run_keep_their_ids(earlier: Path) -> None:
    record = read_run(earlier / "run")
    plan = reopen_plan(replace(record, config=_longer(record.config)))
    assert {unit.method: unit.id for unit in plan.targets} == TARGETS
    assert [unit.id for unit in plan.shadows] == SHADOWS


def test_a_run_whose_training_gave_other_results_is_not_continued(earlier: Path) -> None:
    before = {path: path.read_bytes() for path in earlier.rglob("*.json")}
    refused = run_command("run", "digits", "--output", earlier, *SMALL_OPTIONS)
    assert_refused(refused, f"{earlier}/run holds a run of an earlier version", "choose another --execution.run-name")
    assert "'Results versions'" in refused.stderr
    assert before == {path: path.read_bytes() for path in earlier.rglob("*.json")}
    # under its default name, a new run is made beside it
    record = read_run(earlier / "run")
    unnamed = replace(record.config, execution=replace(record.config.execution, run_name=None))
    (earlier / "run").rename(earlier / f"digits-{record.run_hash[:8]}")
    plan = make_plan(unnamed)
    assert plan.record.run_hash != record.run_hash
    (warning,) = plan.warnings
    assert f"digits-{record.run_hash[:8]} holds a run of an earlier version" in warning


def _longer(config: AuditConfig) -> AuditConfig:
    return replace(config, methods=(*config.methods, "fine_tuning"), shadows=replace(config.shadows, num_models=6))


@pytest.mark.usefixtures("without_figures")
def test_an_earlier_run_of_the_same_training_is_continued_and_trains_only_the_additions(tmp_path: Path) -> None:
    with tarfile.open(SAME_TRAINING) as archive:
        archive.extractall(tmp_path, filter="data")
    longer = _longer(small_config(tmp_path))
    plan = make_plan(longer)
    new = [plan.shadows[-1].id, *(unit.id for unit in plan.targets if unit.method == "fine_tuning")]
    runner = InProcess()
    report = audit(longer, run_units=runner)
    assert sorted(unit.id for unit in runner.units) == sorted(new)
    assert (report.status, report.sizes["shadows"], len(report.rows)) == ("COMPLETE", 6, 4)
    assert run_command("verify", tmp_path / "run").stdout == "COMPLETE\n"
