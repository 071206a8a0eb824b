"""Audits on object storage: continued on another machine, and after every kind of damage and loss."""

from __future__ import annotations

import errno
import shutil
import signal
import socket
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import InProcess, run_command
from object_storage import S3Server, Watched, mirror_of, open_storage
from pyarrow import fs
from small_audit import SMALL_OPTIONS, small_config

import ungan_dist
from ungan_dist import cli, launch, store
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs import units
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.storage.mirror import Mirror, connect
from ungan_dist.runs.storage.summaries import FOLDER
from ungan_dist.runs.storage.workers import ExecuteThere, ExecuteTogetherThere
from ungan_dist.runs.units import Done, Failed, Unit, execute, failure_of
from ungan_dist.training.world import World
from ungan_dist.urls import join_url

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("without_figures")]


@pytest.fixture
def table(finished_run: Path) -> bytes:
    """The table of the same audit in a plain folder."""
    return (finished_run / "run/table.json").read_bytes()


def test_a_run_begun_on_one_machine_continues_on_another(tmp_path: Path, table: bytes) -> None:
    there = open_storage("in memory", tmp_path)
    first, second, third = (mirror_of(*there, tmp_path / name) for name in ("first", "second", "third"))
    begun, rest, nothing = InProcess(interrupted_after=3), InProcess(), InProcess()
    with pytest.raises(KeyboardInterrupt):
        audit(small_config(first.folder), run_units=begun, mirror=first)
    assert second.pull_json("run/status.json")
    assert store.read_json(second.folder / "run/status.json")["state"] == "PARTIAL"

    report = audit(small_config(second.folder), run_units=rest, mirror=second)
    assert report.status == "COMPLETE"
    ids = [unit.id for unit in (*begun.units, *rest.units)]
    assert len(begun.units) == 3
    assert len(ids) == len(set(ids)) == 5
    assert (second.folder / "run/table.json").read_bytes() == table

    audit(small_config(third.folder), run_units=nothing, mirror=third)
    assert not nothing.units
    assert (third.folder / "run/table.json").read_bytes() == table
    assert third.pull("run", "report.json") == "intact"

    # another machine extends the run; the first machine then requests the earlier one
    longer = replace(small_config(second.folder), num_seeds=2, methods=("original", "retrain", "ungan"))
    audit(longer, run_units=InProcess(), mirror=second)
    again = InProcess()
    report = audit(small_config(first.folder), run_units=again, mirror=first)
    assert not again.units
    assert report.folder is not None
    view = report.folder.relative_to(first.folder)
    assert view.match("run/reports/4-shadows-1-seed-*")
    assert (report.folder / "table.json").read_bytes() == table
    for name in ("table.json", "report.html", "request.json", "status.json", "membership.npy"):
        assert first.filesystem.get_file_info(f"{first.root}/{view}/{name}").is_file, name


def test_a_flipped_bit_in_the_storage_is_repaired_by_a_run(finished_run: Path, tmp_path: Path, table: bytes) -> None:
    root = tmp_path / "there"
    machine = [mirror_of(fs.LocalFileSystem(), str(root), tmp_path / name) for name in ("first", "second", "third")]
    shutil.copytree(finished_run, machine[0].folder)
    audit(small_config(machine[0].folder), run_units=InProcess(0), mirror=machine[0])
    victim = sorted(root.glob("shadows/*.npy"))[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    second, nothing = InProcess(), InProcess()
    # the copy in the summary is intact, so nothing is trained; verify reads each file and finds the damage
    assert audit(small_config(tmp_path / "aside"), run_units=nothing, mirror=aside(root)).status == "COMPLETE"
    assert not nothing.units
    assert run_command("verify", f"file://{root}/run").returncode == 1
    for summary in root.glob(f"**/{FOLDER}/*"):
        summary.unlink()
    assert audit(small_config(machine[1].folder), run_units=second, mirror=machine[1]).status == "COMPLETE"
    assert [unit.marker for unit in second.units] == [f"shadows/{victim.stem}.json"]
    assert victim.read_bytes() == whole
    audit(small_config(machine[2].folder), run_units=nothing, mirror=machine[2])
    assert not nothing.units
    assert (machine[2].folder / "run/table.json").read_bytes() == table


def aside(root: Path) -> Mirror:
    return mirror_of(fs.LocalFileSystem(), str(root), root.parent / "aside")


def test_a_full_working_folder_of_a_worker_does_not_end_the_driver(finished_run: Path, tmp_path: Path) -> None:
    plan = make_plan(small_config(tmp_path / "driver"))

    def full(unit: Unit, *progress: object) -> Failed:
        return Failed(unit=unit, error="No space left on device", kind="storage_full")

    there = ExecuteThere(url=f"file://{tmp_path / 'there'}", cache=str(tmp_path / "worker"), execute=full)
    machine = mirror_of(fs.LocalFileSystem(), str(tmp_path / "there"), tmp_path / "driver")
    shutil.copytree(finished_run, machine.folder)
    audit(small_config(machine.folder), run_units=InProcess(0), mirror=machine)
    unit = plan.shadows[0]
    machine.discard("", unit.marker)
    outcome = there(unit)
    assert isinstance(outcome, Failed)
    assert outcome.kind == "error"  # another worker may have space
    assert str(tmp_path / "worker") in outcome.error


@pytest.mark.parametrize("is_raised", [True, False], ids=["in training", "at the commit"])
def test_a_world_names_the_machine_whose_working_folder_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_raised: bool
) -> None:
    def full(todo: Iterable[Unit], _: World) -> Iterator[Failed]:
        error = OSError(errno.ENOSPC, "No space left on device")
        for one in todo:
            if is_raised:
                raise error
            yield failure_of(one, error)

    machine = mirror_of(fs.LocalFileSystem(), str(tmp_path / "there"), tmp_path / "driver")
    monkeypatch.setattr(units, "execute_together", full)
    there = ExecuteTogetherThere(url=f"file://{tmp_path / 'there'}", cache=str(tmp_path / "worker"))

    def run_together(todo: Sequence[Unit]) -> Iterator[Done | Failed]:
        try:
            yield from there(todo, World())
        except OSError as error:  # Ray Train ends the world, and the driver finds the reason
            assert is_raised
            yield failure_of(todo[0], error)

    place = f"the working folder {tmp_path}/worker/.+ of {socket.gethostname()}"
    with pytest.raises(Unfinished, match=f"^no space left for {place} .*: free some space") as ended:
        audit(small_config(machine.folder), run_units=run_together, mirror=machine)
    assert ended.value.exit_code == 3


def test_results_of_a_dead_driver_are_pushed_by_the_next_without_training(
    finished_run: Path, tmp_path: Path, table: bytes
) -> None:
    shutil.copytree(finished_run, tmp_path / "first")
    inner, root = open_storage("in memory", tmp_path)
    nothing = InProcess()
    first = mirror_of(inner, root, tmp_path / "first")
    audit(small_config(first.folder), run_units=nothing, mirror=first)
    second = mirror_of(inner, root, tmp_path / "second")
    audit(small_config(second.folder), run_units=nothing, mirror=second)
    assert not nothing.units
    assert (second.folder / "run/table.json").read_bytes() == table


def test_another_config_under_the_same_name_in_storage_is_refused(tmp_path: Path) -> None:
    there = open_storage("in memory", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        audit(small_config(tmp_path / "first"), run_units=InProcess(0), mirror=mirror_of(*there, tmp_path / "first"))
    config = small_config(tmp_path / "second")
    other = replace(config, train=replace(config.train, learning_rate=0.2))
    with pytest.raises(ConfigError, match=r"train\.learning_rate"):
        audit(other, run_units=InProcess(), mirror=mirror_of(*there, tmp_path / "second"))


def test_storage_without_write_access_is_reported_before_training(tmp_path: Path) -> None:
    def refuse(act: str, path: str) -> None:
        raise PermissionError(f"AccessDenied {path}")

    inner, root = open_storage("in memory", tmp_path)
    runner = InProcess()
    with pytest.raises(ConfigError, match="AccessDenied"):
        audit(
            small_config(tmp_path / "here"),
            run_units=runner,
            mirror=mirror_of(fs.PyFileSystem(Watched(inner, refuse)), root, tmp_path / "here"),
        )
    assert not runner.units


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = S3Server()
        try:
            yield server
        finally:
            server.stop()


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return int(end.value.code or 0)


def test_a_whole_run_by_the_command_line_over_s3(
    s3: S3Server, tmp_path: Path, table: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the command's handler would outlive the test
    url = s3.url("bucket/deep/audits")
    run = ["run", "digits", *SMALL_OPTIONS, "--output", url, "--execution.progress", "none"]
    assert command(*run, "--execution.cache", str(tmp_path / "one")) == 0
    assert join_url(url, "run") in capsys.readouterr().out
    with s3.filesystem.open_input_stream("bucket/deep/audits/run/table.json") as stream:
        assert stream.read() == table

    # another machine starts empty and pulls everything
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert command("status", join_url(url, "run")) == 0
    assert command("report", join_url(url, "run")) == 0
    model = ungan_dist.load(join_url(url, "run"), "ungan")
    assert not model.training
    (here,) = (tmp_path / "home/.cache/ungan_dist").iterdir()
    assert (here / "run/table.json").read_bytes() == table
    assert command("verify", join_url(url, "run")) == 0
    assert capsys.readouterr().out.endswith("COMPLETE\n")

    name = next(name for name in connect(url).sizes("shadows") if name.endswith(".npy"))
    with s3.filesystem.open_output_stream(f"bucket/deep/audits/shadows/{name}") as stream:
        stream.write(bytes((here / "shadows" / name).stat().st_size))
    assert command("verify", join_url(url, "run")) == 1
    found = capsys.readouterr()
    assert name.removesuffix(".npy") in found.err
    assert found.out.endswith("CORRUPT\n")
    # the remedy in the message repairs it
    s3.filesystem.delete_file(f"bucket/deep/audits/shadows/{name}")
    assert command(*run) == 0
    assert command("verify", join_url(url, "run")) == 0

    for refused in (["runs", url], ["purge", join_url(url, "run")], ["targets", "digits", "--output", url]):
        assert command(*refused) == 2


def test_storage_errors_are_reported_and_leave_no_files(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def refused(url: str, *words: str) -> None:
        assert command("run", "digits", *SMALL_OPTIONS, "--output", url) == 2
        message = capsys.readouterr().err
        assert all(word in message for word in (url, "AWS_ACCESS_KEY_ID", *words)), message

    refused(s3.url("elsewhere/audits"), "there is no bucket 'elsewhere'")
    with_nobody = s3.url("bucket/audits").replace(str(s3.port), "1")
    refused(with_nobody, "NETWORK_CONNECTION")
    for act in ("report", "verify", "status"):
        assert command(act, s3.url("bucket/audits/none")) == 2
        assert "bucket/audits/none" in capsys.readouterr().err
    # from now on moto checks keys and has issued none
    server = f"http://127.0.0.1:{s3.port}/moto-api/reset-auth"
    try:
        urllib.request.urlopen(urllib.request.Request(server, b"0", {"Content-Type": "text/plain"})).close()
        refused(s3.url("bucket/audits"), "ACCESS_DENIED")
    finally:
        s3.stop()
        s3.start()
    assert not list(tmp_path.iterdir())


def test_lost_storage_ends_the_run_with_3_and_the_same_command_continues(
    s3: S3Server, tmp_path: Path, table: bytes
) -> None:
    mirror = connect(s3.url("bucket/lost"), cache=str(tmp_path))
    begun: list[Unit] = []

    def lose(todo: Sequence[Unit]) -> Iterator[Done | Failed]:
        for unit in todo:
            begun.append(unit)
            if len(begun) == 3:
                s3.stop()
            yield execute(unit)

    with pytest.raises(Unfinished, match="run the same command") as lost:
        audit(small_config(mirror.folder), run_units=lose, mirror=mirror)
    assert lost.value.exit_code == 3
    s3.start()
    rest = InProcess()
    assert audit(small_config(mirror.folder), run_units=rest, mirror=mirror).status == "COMPLETE"
    assert len(begun) == 3
    assert not {unit.id for unit in rest.units} & {unit.id for unit in begun}
    with s3.filesystem.open_input_stream("bucket/lost/run/table.json") as stream:
        assert stream.read() == table


def test_several_workers_on_a_batch_need_a_shared_folder(tmp_path: Path) -> None:
    config = replace(small_config(tmp_path), output=f"file://{tmp_path}/there")
    with pytest.raises(ConfigError, match="num_workers"):
        launch.audit(replace(config, train=replace(config.train, num_workers=2)))
