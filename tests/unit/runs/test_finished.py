"""A finished run is recognised without computing; any change needs the full check."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damaged_records import rewrite
from in_process import InProcess, rehearse_here, run_command
from PIL import Image
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist import store
from ungan_dist.config.attack import ReportConfig
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import DataConfig, GivenConfig, SourceConfig
from ungan_dist.config.training import ModelConfig
from ungan_dist.runs.finished import FINISHED_FILE, find_finished, find_report, fingerprint_inputs
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.units import Done, Failed, Unit

pytestmark = pytest.mark.usefixtures("figures_are_drawn_once")

RUN = ["run", "digits", *SMALL_OPTIONS]


def test_output_and_exit_code_equal_those_of_the_full_check(output: Path) -> None:
    (output / "run" / FINISHED_FILE).unlink()
    assert find_finished(small_config(output)) is None
    long = run_command(*RUN, "--output", output)
    assert find_finished(small_config(output)) is not None
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    short = run_command(*RUN, "--output", output)
    assert (short.returncode, short.stdout) == (long.returncode, long.stdout) == (0, long.stdout)
    assert (report := run_command("report", output / "run")).stdout == long.stdout
    assert report.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_torch_is_not_imported(output: Path) -> None:
    script = (
        "import sys\n"
        "from ungan_dist import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit as end: print(end.code, sorted({'torch', 'scipy', 'matplotlib'} & set(sys.modules)))\n"
    )
    commands = (
        [*RUN, "--output", str(output)],
        ["report", str(output / "run")],
        ["status", str(output / "run")],
        ["verify", "--quick", str(output / "run")],
        ["runs", str(output)],
    )
    for words in commands:
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "0 []", words


def test_another_request_is_not_answered_by_the_report_of_the_run(output: Path) -> None:
    config = small_config(output)
    assert find_finished(config) is not None
    assert find_finished(dataclasses.replace(config, methods=("original", "ungan"))) is None
    assert find_finished(dataclasses.replace(config, methods=("original", "ungan", "retrain"))) is None
    assert find_finished(dataclasses.replace(config, methods=("original", "ungan", "cf_k"))) is None
    assert find_finished(dataclasses.replace(config, num_seeds=2)) is None
    assert find_finished(dataclasses.replace(config, shadows=dataclasses.replace(config.shadows, num_models=6))) is None
    assert find_finished(dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=4))) is None


@pytest.mark.parametrize(
    "changes", [{"report": ReportConfig(show_examples=True)}, {"data": DataConfig(loader="resident")}]
)
def test_settings_that_change_the_output_need_the_full_check(output: Path, changes: dict[str, object]) -> None:
    assert find_finished(small_config(output, **changes)) is None


@pytest.mark.parametrize(
    "name", ["run/table.json", "run/report.html", "run/log_odds/0/ungan.npy", "run/membership.npy"]
)
def test_a_changed_file_is_restored(output: Path, name: str) -> None:
    path = output / name
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b"??")
    assert find_finished(small_config(output)) is None
    assert find_report(output / "run") is None
    assert run_command(*RUN, "--output", output).returncode == 0
    assert path.read_bytes() == content
    assert find_finished(small_config(output)) is not None


@pytest.mark.parametrize("state", ["PARTIAL", "RUNNING", "FAILED"])
def test_only_a_complete_run_counts(output: Path, state: str) -> None:
    rewrite(output / "run/status.json", state=state)
    assert find_finished(small_config(output)) is None


def test_a_purged_or_locked_run_needs_the_full_check(output: Path) -> None:
    with store.run_lock(output / "run"):
        assert find_finished(small_config(output)) is None
    store.write_json(output / "run/purged.json", {"purged": "today"})
    assert find_finished(small_config(output)) is None
    assert run_command(*RUN, "--output", output).returncode == 2


def listed(folder: Path) -> AuditConfig:
    """A config with a forget list, a Parquet file, and no run name."""
    config = small_config(folder / "out")
    rng = np.random.default_rng(0)
    pictures: list[dict[str, object]] = []
    for _ in range(120):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(file, "PNG")
        pictures.append({"bytes": file.getvalue(), "path": None})
    table = pa.table({"image": pictures, "label": [position % 3 for position in range(120)]})
    pq.write_table(table, folder / "data.parquet")
    (folder / "forget.csv").write_text("index\n" + "\n".join(map(str, range(6))))
    return dataclasses.replace(
        config,
        name="custom",
        source=SourceConfig(kind="auto", path=str(folder / "data.parquet")),
        given=GivenConfig(forget=str(folder / "forget.csv")),
        attack=dataclasses.replace(config.attack, fnr=0.1),
        execution=dataclasses.replace(config.execution, run_name=None),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditConfig:
    """The config of a complete run with its own list and data."""
    config = listed(tmp_path_factory.mktemp("listed"))
    audit(config, run_units=InProcess())
    return config


def append(path: str) -> None:
    Path(path).write_text(Path(path).read_text() + "\n7\n")


def touch(path: str) -> None:
    os.utime(path)


@pytest.mark.parametrize(("field", "change"), [("forget", append), ("forget", os.remove), ("path", touch)])
def test_changed_inputs_need_the_full_check(made: AuditConfig, field: str, change: Callable[[str], None]) -> None:
    file = made.given.forget if field == "forget" else made.source.path
    assert file is not None
    assert (found := find_finished(made)) is not None
    assert found.folder.name.startswith("custom-")
    keep = f"{file}.kept"
    shutil.copy2(file, keep)
    try:
        change(file)
        assert find_finished(made) is None
        assert find_report(found.folder) is None
    finally:
        shutil.move(keep, file)
    assert find_finished(made) is not None


def test_a_run_that_was_extended_without_a_report_takes_the_long_way(output: Path) -> None:
    more = ["--methods", "original,retrain,ungan,cf_k"]
    assert run_command("targets", *RUN[1:], *more, "--output", output).returncode == 0
    assert find_report(output / "run") is None
    assert "CF-k" not in run_command(*RUN, "--output", output).stdout
    for command in ([*RUN, *more, "--output", output], ["report", output / "run"]):
        assert "CF-k" in run_command(*command).stdout


def test_an_input_that_changes_during_the_run_is_noticed(made: AuditConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(made, output=str(tmp_path))
    file = Path(str(config.given.forget))
    keep = shutil.copy2(file, tmp_path / "kept")

    class Changing(InProcess):
        def __call__(self, units: Sequence[Unit]) -> Iterator[Done | Failed]:
            append(str(file))
            yield from super().__call__(units)

    try:
        audit(config, run_units=Changing())
        assert find_finished(config) is None
    finally:
        shutil.move(keep, file)


def test_a_model_of_the_user_is_always_built_anew(tmp_path: Path) -> None:
    config = dataclasses.replace(small_config(tmp_path), model=ModelConfig(factory="user_models:linear"))
    audit(config, run_units=InProcess(), run_once=lambda _, rehearsal: rehearse_here(rehearsal))
    assert find_finished(config) is None
    assert find_report(tmp_path / "run") is None
    assert run_command("verify", "--quick", tmp_path / "run").returncode == 0


def test_results_that_are_gone_do_not_fail_the_report(output: Path) -> None:
    (output / "run" / FINISHED_FILE).unlink()
    shutil.rmtree(output / "data")
    assert run_command("report", output / "run").returncode == 0
    assert not (output / "run" / FINISHED_FILE).exists()


def test_a_broken_link_and_a_loop_in_a_folder_of_images_are_watched(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / ".#lock").symlink_to("user@host.1234")
    config = dataclasses.replace(small_config(tmp_path), source=SourceConfig(kind="image_folder", path=str(tmp_path)))
    before = fingerprint_inputs(config)
    assert before is not None
    (tmp_path / ".#lock").unlink()
    assert fingerprint_inputs(config) != before


def test_a_path_below_the_home_folder_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = dataclasses.replace(small_config(tmp_path), source=SourceConfig(kind="image_folder", path="~/images"))
    assert fingerprint_inputs(config) is None
    (tmp_path / "images").mkdir()
    assert list(fingerprint_inputs(config) or ()) == [str(tmp_path / "images")]


@pytest.mark.parametrize("damage", ["digit", "[" * 200_000, "[]", "{}", '{"sha256": []}'])
def test_a_damaged_record_takes_the_long_way(output: Path, damage: str) -> None:
    path = output / "run" / FINISHED_FILE
    before = path.read_text()
    path.write_text(before.replace('"mean": 0', '"mean": 1', 1) if damage == "digit" else damage)
    assert path.read_text() != before
    assert find_finished(small_config(output)) is None
    assert run_command("report", output / "run").returncode == 0
    assert find_finished(small_config(output)) is not None


def test_a_copy_of_a_run_is_judged_by_its_own_files(output: Path) -> None:
    shutil.copytree(output / "run", output / "copy")
    (output / "copy/log_odds/0/ungan.npy").unlink()
    assert find_report(output / "copy") is None
    assert find_report(output / "run") is not None


def test_a_run_of_another_name_does_not_answer(made: AuditConfig) -> None:
    found = find_finished(made)
    assert found is not None
    shutil.move(found.folder, found.folder.with_name("custom-other"))
    try:
        assert find_finished(made) is None
    finally:
        shutil.move(found.folder.with_name("custom-other"), found.folder)


def test_an_input_that_cannot_be_read_is_not_watched(tmp_path: Path) -> None:
    for path in ("x" * 5000, str(tmp_path / "absent.csv")):
        assert fingerprint_inputs(dataclasses.replace(small_config(tmp_path), given=GivenConfig(forget=path))) is None
