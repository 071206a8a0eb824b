"""The commit protocol of object storage under every failure, and the names of runs in URLs."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from object_storage import CountedRequests, Watched, mirror_of, open_storage
from pyarrow import fs

from ungan_dist import store
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs.storage.mirror import connect
from ungan_dist.urls import join_url, refuse_credentials, split_run

FILES = {"deep/one.bin": b"weights of one", "deep/two.bin": b"log-odds of two"}


def commit(folder: Path, files: dict[str, bytes] = FILES, id: str = "a") -> None:
    store.commit(folder / "run", "result.json", id=id, files=files, facts={"loss": 0.5})


@pytest.mark.parametrize("kind", ["local", "in memory"])
def test_a_pushed_result_is_pulled_and_its_marker_is_pushed_last(tmp_path: Path, kind: str) -> None:
    inner, root = open_storage(kind, tmp_path)
    calls: list[tuple[str, str]] = []
    watched = fs.PyFileSystem(Watched(inner, lambda act, path: calls.append((act, path))))
    commit(tmp_path / "here")
    here = mirror_of(watched, root, tmp_path / "here")
    here.push("run", "result.json")
    seen = [path for act, path in calls if act == ("move" if kind == "local" else "open")]
    assert seen == [f"{root}/run/deep/one.bin", f"{root}/run/deep/two.bin", f"{root}/run/result.json"]
    assert sorted(here.sizes("run")) == ["deep/one.bin", "deep/two.bin", "result.json"]

    other = mirror_of(inner, root, tmp_path / "other")
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
        inner, root = open_storage(kind, tmp_path / str(step))
        if before:
            mirror_of(inner, root, tmp_path / "old").push("run", "result.json")
        steps = iter(range(step))

        def fail(act: str, path: str, steps: Iterator[int] = steps) -> None:
            if next(steps, None) is None:
                raise OSError(f"no route to host at {act} {path}")

        failing = mirror_of(fs.PyFileSystem(Watched(inner, fail)), root, tmp_path / "here")
        failure = ""
        try:
            failing.push("run", "result.json")
        except Unfinished as error:
            failure = str(error)
        ended = not failure
        assert ended or ("no route to host" in failure and "run the same command" in failure)
        other = mirror_of(inner, root, tmp_path / f"{step}/other")
        assert (other.pull("run", "result.json", id="a") == "intact") == ended
        assert (store.committed(other.folder / "run", "result.json", id="a") is not None) == ended
        assert not list((tmp_path / str(step)).rglob("*.tmp"))
        if ended:
            break
        mirror_of(inner, root, tmp_path / "here").push("run", "result.json")
        assert other.pull("run", "result.json", id="a") == "intact"
        assert (other.folder / "run/deep/two.bin").read_bytes() == FILES["deep/two.bin"]
    assert step == (12 if kind == "local" else 9)  # three files: folder, open, write, and rename if needed


def _push_until_killed(root: str, folder: Path, step: int) -> None:
    steps = iter(range(step))

    def kill(act: str, path: str) -> None:
        if next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    mirror_of(fs.PyFileSystem(Watched(fs.LocalFileSystem(), kill)), root, folder).push("run", "result.json")


@pytest.mark.process
def test_a_kill_at_any_write_leaves_a_whole_result_or_none(tmp_path: Path) -> None:
    commit(tmp_path / "here")
    context = multiprocessing.get_context("fork")
    for step in itertools.count():
        root = str(tmp_path / f"{step}/there")
        process = context.Process(target=_push_until_killed, args=(root, tmp_path / "here", step))
        process.start()
        process.join()
        other = mirror_of(fs.LocalFileSystem(), root, tmp_path / f"{step}/other")
        state = other.pull("run", "result.json", id="a")
        if process.exitcode == 0:
            assert state == "intact"
            break
        assert process.exitcode == -signal.SIGKILL
        assert state == "absent"
        mirror_of(fs.LocalFileSystem(), root, tmp_path / "here").push("run", "result.json")
        assert other.pull("run", "result.json", id="a") == "intact"
    assert step == 12


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "absent", "marker cut", "marker of a list", "marker binary", "leads out"]
)
def test_damaged_remote_results_are_not_pulled_and_a_push_repairs_them(tmp_path: Path, damage: str) -> None:
    commit(tmp_path / "here")
    root = tmp_path / "there"
    here = mirror_of(fs.LocalFileSystem(), str(root), tmp_path / "here")
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
    other = mirror_of(fs.LocalFileSystem(), str(root), tmp_path / "other")
    assert other.pull("run", "result.json", id="a") == "damaged"
    assert not [path for path in tmp_path.glob("other/**/*") if path.is_file()]
    again = mirror_of(fs.LocalFileSystem(), str(root), tmp_path / "here")  # the next driver; this one has seen it whole
    if damage == "flipped":
        again.discard("run", "result.json")  # a remote file of the same size would count as equal
    again.push("run", "result.json")
    assert other.pull("run", "result.json", id="a") == "intact"


def test_a_push_looks_only_for_what_the_process_has_not_seen(tmp_path: Path) -> None:
    inner, root = open_storage("in memory", tmp_path)
    requests: list[str] = []
    here = mirror_of(fs.PyFileSystem(CountedRequests(inner, requests)), root, tmp_path / "here")

    def take(act: Callable[[], object]) -> list[str]:
        requests.clear()
        act()
        return list(requests)

    def push() -> None:
        here.push("run", "result.json")

    commit(here.folder)
    assert take(push) == ["read", "write", "write", "write"]  # the marker, which nobody has seen
    assert take(push) == []
    commit(here.folder, id="b")
    assert take(push) == ["write", "write", "write"]
    here.discard("run", "result.json")
    assert take(push) == ["write", "write", "write"]
    other = mirror_of(here.filesystem, root, tmp_path / "other")
    assert take(lambda: other.pull("run", "result.json", id="b")) == ["read", "read", "read"]
    assert take(lambda: other.push("run", "result.json")) == []
    commit(other.folder, id="c")
    fails = mirror_of(fs.PyFileSystem(Watched(inner, refuse)), root, other.folder)
    fails.known["run/result.json"] = None
    with pytest.raises(Unfinished):
        fails.push("run", "result.json")
    assert "run/result.json" not in fails.known  # some of its files may be there


def refuse(act: str, path: str) -> None:
    raise OSError(f"no route to host at {act} {path}")


def test_a_locally_altered_result_is_not_pushed(tmp_path: Path) -> None:
    commit(tmp_path / "here")
    (tmp_path / "here/run/deep/two.bin").write_bytes(b"altered")
    here = mirror_of(fs._MockFileSystem(), "bucket", tmp_path / "here")
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


@pytest.mark.parametrize(
    "url",
    [
        "abfs://c/runs?tenant_id=t&client_id=i&client_secret=hunter2",
        "abfs://c@account.dfs.core.windows.net/runs?sv=1&sig=hunter2&se=2",
        "s3://bucket/runs?region=eu-west-1&secret_key=hunter2",
        "abfs://account:hunter2@host/runs",
        "s3://bucket/runs?endpoint_override=http://user:hunter2@minio:9000",
        "s3://bucket/runs?endpoint_override=user%3Ahunter2%40minio",
        "s3://bucket/runs?endpoint_override=https%3A%2F%2Fhost%2F%3FX-Amz-Signature%3Dhunter2",
        "s3://bucket/runs?proxy_options=http://user:hunter2@proxy",
        "s3://bucket/runs?proxy-options=hunter2",
        "s3://bucket/runs?X-Amz-Signature=hunter2&X-Amz-Date=1",
        "s3://bucket/runs?x-goog-credential=hunter2",
        "abfs://c@account.dfs.core.windows.net/runs?sas=hunter2",
        "abfs://c@account.dfs.core.windows.net/runs?SAS_TOKEN=hunter2",
        "abfs://c/runs?AccountKey=hunter2",
        "abfs://c/runs?connection_string=hunter2",
        "gs://bucket/runs?pwd=hunter2",
        "gs://bucket/runs?a=1;password=hunter2",
        "gs://bucket/runs#sig=hunter2",
        "gs://bucket/runs?authorization=Bearer%20hunter2",
    ],
)
def test_a_secret_among_a_urls_options_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="the URL of the output") as refused:
        refuse_credentials(url)
    assert "hunter2" not in str(refused.value)


def test_urls_without_a_secret_pass() -> None:
    harmless = "s3://b/p?endpoint_override=http://minio:9000&scheme=http&allow_bucket_creation=true&sassy=1&design=2"
    for url in (
        harmless,
        "s3://b/p?region=eu-west-1&endpoint_override=127.0.0.1:9",
        "abfss://c@account.dfs.core.windows.net/p",
    ):
        refuse_credentials(url)
    refuse_credentials("gs://anonymous@bucket/p")
