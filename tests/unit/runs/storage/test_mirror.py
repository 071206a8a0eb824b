"""Object storage: the commit protocol under every failure, and audits that go on from another machine."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import InProcess
from object_storage import S3Server, Watched
from pyarrow import fs
from small_audit import SMALL_OPTIONS, small_config

import ungan_dist
from ungan_dist import cli, launch, store
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.storage.mirror import Mirror, connect
from ungan_dist.runs.storage.remote import ExecuteThere
from ungan_dist.runs.units import Done, Failed, Unit, execute
from ungan_dist.urls import join_url, refuse_credentials, split_run

pytestmark = pytest.mark.usefixtures("without_figures")
FILES = {"deep/one.bin": b"weights of one", "deep/two.bin": b"log-odds of two"}


def mirrored(filesystem: fs.FileSystem, root: str, folder: Path) -> Mirror:
    return Mirror(url="test://storage", filesystem=filesystem, root=root, folder=folder)


def storage(kind: str, tmp_path: Path) -> tuple[fs.FileSystem, str]:
    return (fs.LocalFileSystem(), str(tmp_path / "there")) if kind == "local" else (fs._MockFileSystem(), "bucket")


def commit(folder: Path, files: dict[str, bytes] = FILES, id: str = "a") -> None:
    store.commit(folder / "run", "result.json", id=id, files=files, facts={"loss": 0.5})


@pytest.mark.parametrize("kind", ["local", "in memory"])
def test_a_pushed_result_comes_back_with_its_marker_pushed_last(tmp_path: Path, kind: str) -> None:
    inner, root = storage(kind, tmp_path)
    calls: list[tuple[str, str]] = []
    watched = fs.PyFileSystem(Watched(inner, lambda act, path: calls.append((act, path))))
    commit(tmp_path / "here")
    here = mirrored(watched, root, tmp_path / "here")
    here.push("run", "result.json")
    seen = [path for act, path in calls if act == ("move" if kind == "local" else "open")]
    assert seen == [f"{root}/run/deep/one.bin", f"{root}/run/deep/two.bin", f"{root}/run/result.json"]
    assert sorted(here.sizes("run")) == ["deep/one.bin", "deep/two.bin", "result.json"]

    other = mirrored(inner, root, tmp_path / "other")
    assert other.pull("run", "result.json", id="b") == "absent"
    assert other.pull("run", "result.json", id="a") == "intact"
    assert store.committed(tmp_path / "other/run", "result.json", id="a") == {"loss": 0.5}
    calls.clear()
    here.push("run", "result.json")
    assert not calls


@pytest.mark.parametrize("kind", ["local", "in memory"])
@pytest.mark.parametrize("before", [False, True], ids=["onto nothing", "onto another result"])
def test_a_failure_at_any_write_leaves_a_whole_result_or_none(tmp_path: Path, kind: str, before: bool) -> None:
    commit(tmp_path / "old", {name: content[::-1] for name, content in FILES.items()}, id="old")
    commit(tmp_path / "here")
    for step in itertools.count():
        inner, root = storage(kind, tmp_path / str(step))
        if before:
            mirrored(inner, root, tmp_path / "old").push("run", "result.json")
        steps = iter(range(step))

        def fail(act: str, path: str, steps: Iterator[int] = steps) -> None:
            if next(steps, None) is None:
                raise OSError(f"no route to host at {act} {path}")

        failing = mirrored(fs.PyFileSystem(Watched(inner, fail)), root, tmp_path / "here")
        failure = ""
        try:
            failing.push("run", "result.json")
        except Unfinished as error:
            failure = str(error)
        ended = not failure
        assert ended or ("no route to host" in failure and "run the same command" in failure)
        other = mirrored(inner, root, tmp_path / f"{step}/other")
        assert (other.pull("run", "result.json", id="a") == "intact") == ended
        assert (store.committed(other.folder / "run", "result.json", id="a") is not None) == ended
        assert not list((tmp_path / str(step)).rglob("*.tmp"))
        if ended:
            break
        mirrored(inner, root, tmp_path / "here").push("run", "result.json")
        assert other.pull("run", "result.json", id="a") == "intact"
        assert (other.folder / "run/deep/two.bin").read_bytes() == FILES["deep/two.bin"]
    assert step == (12 if kind == "local" else 9)  # three files: folder, open, write, and rename where that is needed


def _push_until_killed(root: str, folder: Path, step: int) -> None:
    steps = iter(range(step))

    def kill(act: str, path: str) -> None:
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    mirrored(fs.PyFileSystem(Watched(fs.LocalFileSystem(), kill)), root, folder).push("run", "result.json")


def test_a_kill_at_any_write_leaves_a_whole_result_or_none(tmp_path: Path) -> None:
    commit(tmp_path / "here")
    context = multiprocessing.get_context("fork")
    for step in itertools.count():
        root = str(tmp_path / f"{step}/there")
        process = context.Process(target=_push_until_killed, args=(root, tmp_path / "here", step))
        process.start()
        process.join()
        other = mirrored(fs.LocalFileSystem(), root, tmp_path / f"{step}/other")
        state = other.pull("run", "result.json", id="a")
        if process.exitcode == 0:
            assert state == "intact"
            break
        assert process.exitcode == -signal.SIGKILL
        assert state == "absent"
        mirrored(fs.LocalFileSystem(), root, tmp_path / "here").push("run", "result.json")
        assert other.pull("run", "result.json", id="a") == "intact"
    assert step == 12


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "absent", "marker cut", "marker of a list", "marker binary", "leads out"]
)
def test_what_is_damaged_there_is_not_brought_here_and_is_mended_by_a_push(tmp_path: Path, damage: str) -> None:
    commit(tmp_path / "here")
    root = tmp_path / "there"
    here = mirrored(fs.LocalFileSystem(), str(root), tmp_path / "here")
    here.push("run", "result.json")
    file, marker = root / "run/deep/two.bin", root / "run/result.json"
    match damage:
        case "truncated":
            file.write_bytes(file.read_bytes()[:-1])
        case "flipped":
            file.write_bytes(b"L" + file.read_bytes()[1:])
        case "absent":
            file.unlink()
        case "marker cut":
            marker.write_bytes(marker.read_bytes()[:20])
        case "marker of a list":
            marker.write_bytes(b"[]")
        case "marker binary":
            marker.write_bytes(b"\xff\xfe\x00")
        case _:
            record = json.loads(marker.read_bytes())
            record["files"] = {"../../" + name: value for name, value in record["files"].items()}
            marker.write_text(json.dumps(record))
    other = mirrored(fs.LocalFileSystem(), str(root), tmp_path / "other")
    assert other.pull("run", "result.json", id="a") == "damaged"
    assert not [path for path in tmp_path.glob("other/**/*") if path.is_file()]
    if damage == "flipped":
        here.discard("run", "result.json")  # of the same size, it would be taken for what is here
    here.push("run", "result.json")
    assert other.pull("run", "result.json", id="a") == "intact"


def test_a_result_that_was_altered_here_is_not_pushed(tmp_path: Path) -> None:
    commit(tmp_path / "here")
    (tmp_path / "here/run/deep/two.bin").write_bytes(b"altered")
    here = mirrored(fs._MockFileSystem(), "bucket", tmp_path / "here")
    with pytest.raises(store.CorruptResult, match=r"two\.bin"):
        here.push("run", "result.json")
    assert "result.json" not in here.sizes("run")


def test_names_of_runs_in_urls() -> None:
    url = "s3://bucket/deep/run?region=us-east-1"
    assert split_run(url) == ("s3://bucket/deep?region=us-east-1", "run")
    assert join_url("s3://bucket/deep/?region=us-east-1", "run") == url
    assert split_run("file:///there/run/") == ("file:///there", "run")
    with pytest.raises(ConfigError, match="names no run"):
        split_run("s3://bucket/")


def test_a_url_with_credentials_is_refused_without_repeating_them() -> None:
    with pytest.raises(ConfigError, match="holds credentials") as refused:
        connect("s3://AKIA123:geheim@bucket/x")
    assert "geheim" not in str(refused.value)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of the same audit in a plain folder."""
    output = tmp_path_factory.mktemp("plain")
    audit(small_config(output), run_units=InProcess())
    return (output / "run/table.json").read_bytes()


@pytest.mark.parametrize(
    "url",
    [
        "abfs://c/runs?tenant_id=t&client_id=i&client_secret=hunter2",
        "abfs://c@account.dfs.core.windows.net/runs?sv=1&sig=hunter2&se=2",
        "s3://bucket/runs?region=eu-west-1&secret_key=hunter2",
        "abfs://account:hunter2@host/runs",
    ],
)
def test_a_secret_among_a_urls_options_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="the URL of the output") as refused:
        refuse_credentials(url)
    assert "hunter2" not in str(refused.value)


def test_urls_without_a_secret_pass() -> None:
    for url in ("s3://b/p?region=eu-west-1&endpoint_override=127.0.0.1:9", "abfss://c@account.dfs.core.windows.net/p"):
        refuse_credentials(url)
    refuse_credentials("gs://anonymous@bucket/p")


def test_a_run_begun_on_one_machine_goes_on_on_another(tmp_path: Path, table: bytes) -> None:
    there = storage("in memory", tmp_path)
    first, second, third = (mirrored(*there, tmp_path / name) for name in ("first", "second", "third"))
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

    # a longer run is asked for elsewhere; the first machine then asks for the shorter one
    longer = replace(small_config(second.folder), num_seeds=2, methods=("original",))
    audit(longer, run_units=InProcess(), mirror=second)
    again = InProcess()
    report = audit(small_config(first.folder), run_units=again, mirror=first)
    assert not again.units
    assert report.sizes["seeds"] == 2


def test_a_flipped_bit_in_the_storage_is_mended_by_the_run_that_meets_it(tmp_path: Path, table: bytes) -> None:
    root = tmp_path / "there"
    machine = [mirrored(fs.LocalFileSystem(), str(root), tmp_path / name) for name in ("first", "second", "third")]
    audit(small_config(machine[0].folder), run_units=InProcess(), mirror=machine[0])
    victim = sorted(root.glob("shadows/*.npy"))[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    second, nothing = InProcess(), InProcess()
    assert audit(small_config(machine[1].folder), run_units=second, mirror=machine[1]).status == "COMPLETE"
    assert [unit.marker for unit in second.units] == [f"shadows/{victim.stem}.json"]
    assert victim.read_bytes() == whole
    audit(small_config(machine[2].folder), run_units=nothing, mirror=machine[2])
    assert not nothing.units
    assert (machine[2].folder / "run/table.json").read_bytes() == table


def test_a_full_working_folder_of_one_worker_is_not_the_drivers(tmp_path: Path) -> None:
    plan = make_plan(small_config(tmp_path / "driver"))

    def full(unit: Unit) -> Failed:
        return Failed(unit=unit, error="No space left on device", kind="storage_full")

    there = ExecuteThere(url=f"file://{tmp_path / 'there'}", cache=str(tmp_path / "worker"), execute=full)
    machine = mirrored(fs.LocalFileSystem(), str(tmp_path / "there"), tmp_path / "driver")
    audit(small_config(machine.folder, methods=("original",)), run_units=InProcess(), mirror=machine)
    unit = plan.shadows[0]
    machine.discard("", unit.marker)
    outcome = there(unit)
    assert isinstance(outcome, Failed)
    assert outcome.kind == "error"  # another worker may have room
    assert str(tmp_path / "worker") in outcome.error


def test_what_a_dead_driver_had_not_pushed_is_pushed_by_the_next_and_not_trained_again(
    tmp_path: Path, table: bytes
) -> None:
    audit(small_config(tmp_path / "first"), run_units=InProcess())  # nothing of it was pushed
    inner, root = storage("in memory", tmp_path)
    nothing = InProcess()
    first = mirrored(inner, root, tmp_path / "first")
    audit(small_config(first.folder), run_units=nothing, mirror=first)
    second = mirrored(inner, root, tmp_path / "second")
    audit(small_config(second.folder), run_units=nothing, mirror=second)
    assert not nothing.units
    assert (second.folder / "run/table.json").read_bytes() == table


def test_another_config_under_the_same_name_in_storage_is_refused(tmp_path: Path) -> None:
    there = storage("in memory", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        audit(small_config(tmp_path / "first"), run_units=InProcess(0), mirror=mirrored(*there, tmp_path / "first"))
    config = small_config(tmp_path / "second")
    other = replace(config, train=replace(config.train, learning_rate=0.2))
    with pytest.raises(ConfigError, match=r"train\.learning_rate"):
        audit(other, run_units=InProcess(), mirror=mirrored(*there, tmp_path / "second"))


def test_storage_that_cannot_be_written_to_is_said_before_anything_is_computed(tmp_path: Path) -> None:
    def refuse(act: str, path: str) -> None:
        raise PermissionError(f"AccessDenied {path}")

    inner, root = storage("in memory", tmp_path)
    runner = InProcess()
    with pytest.raises(ConfigError, match="AccessDenied"):
        audit(
            small_config(tmp_path / "here"),
            run_units=runner,
            mirror=mirrored(fs.PyFileSystem(Watched(inner, refuse)), root, tmp_path / "here"),
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

    # another machine: it has nothing, and finds everything
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
    # what it says to do mends it
    s3.filesystem.delete_file(f"bucket/deep/audits/shadows/{name}")
    assert command(*run) == 0
    assert command("verify", join_url(url, "run")) == 0

    for refused in (["runs", url], ["purge", join_url(url, "run")], ["targets", "digits", "--output", url]):
        assert command(*refused) == 2


def test_no_such_bucket_or_run_wrong_credentials_and_no_server_are_said_and_leave_nothing(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def refused(url: str, *words: str) -> None:
        assert command("run", "digits", *SMALL_OPTIONS, "--output", url) == 2
        said = capsys.readouterr().err
        assert all(word in said for word in (url, "AWS_ACCESS_KEY_ID", *words)), said

    refused(s3.url("elsewhere/audits"), "there is no bucket 'elsewhere'")
    with_nobody = s3.url("bucket/audits").replace(str(s3.port), "1")
    refused(with_nobody, "NETWORK_CONNECTION")
    for act in ("report", "verify", "status"):
        assert command(act, s3.url("bucket/audits/none")) == 2
        assert "bucket/audits/none" in capsys.readouterr().err
    # from now on moto checks keys, of which it has issued none
    server = f"http://127.0.0.1:{s3.port}/moto-api/reset-auth"
    try:
        urllib.request.urlopen(urllib.request.Request(server, b"0", {"Content-Type": "text/plain"})).close()
        refused(s3.url("bucket/audits"), "ACCESS_DENIED")
    finally:
        s3.stop()
        s3.start()
    assert not list(tmp_path.iterdir())


def test_storage_that_is_lost_in_mid_run_ends_with_3_and_the_same_call_continues(
    s3: S3Server, tmp_path: Path, table: bytes
) -> None:
    mirror = connect(s3.url("bucket/lost"), cache=str(tmp_path))
    begun: list[Unit] = []

    def lose(units: Sequence[Unit]) -> Iterator[Done | Failed]:
        for unit in units:
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


def test_several_workers_on_a_batch_need_a_folder_that_all_share(tmp_path: Path) -> None:
    config = replace(small_config(tmp_path), output=f"file://{tmp_path}/there")
    with pytest.raises(ConfigError, match="num_workers"):
        launch.audit(replace(config, train=replace(config.train, num_workers=2)))
