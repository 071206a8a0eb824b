"""A finished run is recognised without computing; anything that changed takes the long way."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import InProcess, run_command
from PIL import Image
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist import store
from ungan_dist.config.attack import ReportConfig
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import DataConfig, GivenConfig, SourceConfig
from ungan_dist.runs.finished import FINISHED_FILE, find_finished, find_report
from ungan_dist.runs.pipeline import audit

RUN = ["run", "digits", *SMALL_OPTIONS]


def test_output_and_exit_code_are_those_of_the_long_way(output: Path) -> None:
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


def test_more_is_computed_and_less_is_not(output: Path) -> None:
    config = small_config(output)
    assert find_finished(dataclasses.replace(config, methods=("original", "ungan"))) is not None
    assert find_finished(dataclasses.replace(config, methods=("original", "ungan", "cf_k"))) is None
    assert find_finished(dataclasses.replace(config, num_seeds=2)) is None
    assert find_finished(dataclasses.replace(config, shadows=dataclasses.replace(config.shadows, num_models=6))) is None
    assert find_finished(dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=4))) is None


@pytest.mark.parametrize(
    "changes", [{"report": ReportConfig(show_examples=True)}, {"data": DataConfig(loader="resident")}]
)
def test_settings_that_change_what_is_written_take_the_long_way(output: Path, changes: dict[str, object]) -> None:
    assert find_finished(small_config(output, **changes)) is None


@pytest.mark.parametrize(
    "name", ["run/table.json", "run/report.html", "run/log_odds/0/ungan.npy", "run/membership.npy"]
)
def test_a_changed_file_is_healed(output: Path, name: str) -> None:
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
    status = store.read_json(output / "run/status.json")
    store.write_json(output / "run/status.json", status | {"state": state})
    assert find_finished(small_config(output)) is None


def test_a_purged_or_locked_run_takes_the_long_way(output: Path) -> None:
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
    """The config of a complete run with a list and data of its own."""
    config = listed(tmp_path_factory.mktemp("listed"))
    audit(config, run_units=InProcess())
    return config


def append(path: str) -> None:
    Path(path).write_text(Path(path).read_text() + "\n7\n")


def touch(path: str) -> None:
    os.utime(path)


@pytest.mark.parametrize(("field", "change"), [("forget", append), ("forget", os.remove), ("path", touch)])
def test_changed_inputs_take_the_long_way(made: AuditConfig, field: str, change: Callable[[str], None]) -> None:
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
