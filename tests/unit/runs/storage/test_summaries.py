"""Summaries of results in object storage: few requests, and no result lost or believed, whatever happens to them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_storage import CountedRequests, Watched, mirror_of, open_storage
from pyarrow import fs

from ungan_dist import store
from ungan_dist.errors import Unfinished
from ungan_dist.runs.storage import summaries as module
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.storage.summaries import FOLDER, Summaries, discard_damaged, pull_summarised

NUM_RESULTS = 12


def name(number: int) -> str:
    return f"shadows/{number}"


def content_of(number: int) -> bytes:
    return bytes(range(number, number + 40)) * (number + 1)


def commit(folder: Path, numbers: Sequence[int]) -> None:
    for number in numbers:
        files = {f"{name(number)}.npy": content_of(number), f"{name(number)}/large": b"w" * 200}
        store.commit(folder, f"{name(number)}.json", id=f"id {number}", files=files, facts={"number": number})


def push(mirror: Mirror, numbers: Sequence[int]) -> None:
    commit(mirror.folder, numbers)
    summaries = Summaries(mirror)
    for number in numbers:
        mirror.push("", f"{name(number)}.json")
        summaries.add("", f"{name(number)}.json")
    summaries.flush()


def pull(mirror: Mirror, numbers: Sequence[int] = range(NUM_RESULTS)) -> set[str]:
    listing = {f"shadows/{file}": size for file, size in mirror.sizes("shadows").items()}
    return pull_summarised(mirror, "", listing, {f"{name(number)}.json": f"id {number}" for number in numbers})


def pull_one_by_one(mirror: Mirror) -> set[str]:
    markers = {f"{name(number)}.json": f"id {number}" for number in range(NUM_RESULTS)}
    return {marker for marker, id in markers.items() if mirror.pull("", marker, id=id) == "intact"}


def assert_whole(folder: Path, markers: set[str]) -> None:
    for marker in markers:
        number = int(Path(marker).stem)
        assert store.committed(folder, marker, id=f"id {number}") == {"number": number}
        assert (folder / f"{name(number)}.npy").read_bytes() == content_of(number)


@pytest.fixture
def small_summaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RESULTS", 5)


@pytest.mark.usefixtures("small_summaries")
def test_results_are_fetched_with_two_requests_a_summary(tmp_path: Path) -> None:
    inner, root = open_storage("in memory", tmp_path)
    requests: list[str] = []
    filesystem = fs.PyFileSystem(CountedRequests(inner, requests))
    push(mirror_of(filesystem, root, tmp_path / "here"), range(NUM_RESULTS))
    requests.clear()
    other = mirror_of(filesystem, root, tmp_path / "other")
    found = pull(other)
    assert found == {f"{name(number)}.json" for number in range(NUM_RESULTS)}
    assert_whole(tmp_path / "other", found)
    assert sorted(requests) == ["list", *["read"] * 6]  # three summaries, each with its pack
    requests.clear()
    assert pull(mirror_of(filesystem, root, tmp_path / "other")) == found
    assert sorted(requests) == ["list", *["read"] * 3]  # what is here needs no pack
    requests.clear()
    other.push("", f"{name(3)}.json")
    assert not requests  # it was seen in the storage
    assert pull(mirror_of(filesystem, root, tmp_path / "third"), [4]) == {f"{name(4)}.json"}
    assert pull(mirror_of(filesystem, root, tmp_path / "third"), [99]) == set()


def test_large_files_stay_out_of_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 199)
    there = open_storage("in memory", tmp_path)
    push(mirror_of(*there, tmp_path / "here"), [0, 1])
    assert pull(mirror_of(*there, tmp_path / "other")) == set()  # each is then read by itself
    assert len(pull(mirror_of(*there, tmp_path / "here"))) == 2
    sizes = [size for file, size in mirror_of(*there, tmp_path).sizes("shadows").items() if file.endswith(".pack")]
    assert sizes == [len(content_of(0)) + len(content_of(1))]


def test_a_pack_ends_at_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 900)
    there = open_storage("in memory", tmp_path)
    push(mirror_of(*there, tmp_path / "here"), range(NUM_RESULTS))
    files = mirror_of(*there, tmp_path).sizes(f"shadows/{FOLDER}")
    assert len(files) > 4
    assert len(pull(mirror_of(*there, tmp_path / "other"))) == NUM_RESULTS


def test_results_of_a_run_have_summaries_in_its_folder(tmp_path: Path) -> None:
    there = open_storage("in memory", tmp_path)
    here, other = (mirror_of(*there, tmp_path / machine) for machine in ("here", "other"))
    store.commit(here.folder / "run", "results/0/ungan.json", id="x", files={"log_odds/0/ungan.npy": b"odds"})
    here.push("run", "results/0/ungan.json")
    summaries = Summaries(here)
    summaries.add("run", "results/0/ungan.json")
    summaries.flush()
    listing = other.sizes("run")
    assert sum(file.startswith(f"{FOLDER}/") for file in listing) == 2
    assert pull_summarised(other, "run", listing, {"results/0/ungan.json": "y"}) == set()  # another id
    assert pull_summarised(other, "run", listing, {"results/0/ungan.json": "x"}) == {"results/0/ungan.json"}
    assert (other.folder / "run/log_odds/0/ungan.npy").read_bytes() == b"odds"


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, int, int]]:
    act = st.sampled_from(["cut", "flip", "delete", "empty", "swap"])
    return draw(st.lists(st.tuples(act, st.integers(0, 200), st.integers(0, 10**6)), max_size=4))


@settings(max_examples=60, deadline=None)
@given(killed_at=st.integers(0, 60), more=st.integers(0, NUM_RESULTS), damage=damages())
def test_no_result_is_lost_or_believed_after_a_kill_and_damage(
    killed_at: int, more: int, damage: list[tuple[str, int, int]]
) -> None:
    """A driver is killed at any write, another adds results, files of the storage are damaged, and a third reads."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_RESULTS", 4)
        patch.setattr(os, "fsync", lambda _: None)  # a disk that others use waits for each
        home, root = Path(folder), Path(folder) / "there"
        steps = iter(range(killed_at))

        def kill(act: str, path: str) -> None:
            if next(steps, None) is None:
                raise OSError("killed")

        first = mirror_of(fs.PyFileSystem(Watched(fs.LocalFileSystem(), kill)), str(root), home / "first")
        with contextlib.suppress(Unfinished):
            push(first, range(more))
        push(mirror_of(fs.LocalFileSystem(), str(root), home / "second"), range(more, NUM_RESULTS))
        files = sorted(path for path in root.rglob("*") if path.is_file())
        for act, place, what in damage if files else ():
            _damage(files, act, files[place % len(files)], what)
        reader = mirror_of(fs.LocalFileSystem(), str(root), home / "reader")
        summarised = pull(reader)
        assert_whole(reader.folder, summarised)
        plain = mirror_of(fs.LocalFileSystem(), str(root), home / "plain")
        one_by_one = pull_one_by_one(plain)
        assert_whole(plain.folder, one_by_one)
        # what the storage has whole is found, with and without summaries
        found = summarised | pull_one_by_one(reader)
        assert found >= one_by_one
        assert_whole(reader.folder, found)
        if not damage:
            assert one_by_one >= {f"{name(number)}.json" for number in range(more, NUM_RESULTS)}
            assert summarised <= one_by_one


def _damage(files: Sequence[Path], act: str, path: Path, what: int) -> None:
    content = path.read_bytes() if path.is_file() else b""
    if not content:
        return
    match act:
        case "cut":
            path.write_bytes(content[: what % len(content)])
        case "flip":
            place = what % len(content)
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        case "delete":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case _:
            other = files[what % len(files)]
            if other.is_file():
                path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("act", ["cut", "flip", "delete", "empty"])
@pytest.mark.parametrize("kind", ["json", "pack"])
def test_a_damaged_summary_is_not_believed(tmp_path: Path, kind: str, act: str) -> None:
    root = tmp_path / "there"
    push(mirror_of(fs.LocalFileSystem(), str(root), tmp_path / "here"), [0, 1])
    (damaged,) = root.glob(f"shadows/{FOLDER}/*.{kind}")
    _damage([], act, damaged, len(damaged.read_bytes()) - 1)  # in the last file of the last result
    reader = mirror_of(fs.LocalFileSystem(), str(root), tmp_path / "reader")
    found = pull(reader)
    assert f"{name(1)}.json" not in found
    assert_whole(reader.folder, found)
    assert not (reader.folder / f"{name(1)}.json").exists()
    assert pull_one_by_one(reader) == {f"{name(0)}.json", f"{name(1)}.json"}


@pytest.mark.parametrize("act", ["cut", "delete", "empty"])
@pytest.mark.parametrize("file", ["1.json", "1.npy", "1/large"])
def test_a_result_that_the_storage_lost_does_not_count(tmp_path: Path, file: str, act: str) -> None:
    root = tmp_path / "there"
    here = mirror_of(fs.LocalFileSystem(), str(root), tmp_path / "here")
    push(here, [0, 1])
    _damage([], act, root / "shadows" / file, 3)
    for machine in ("here", "reader"):
        assert pull(mirror_of(fs.LocalFileSystem(), str(root), tmp_path / machine)) == {f"{name(0)}.json"}


@pytest.mark.parametrize(
    "results",
    [
        None,
        [],
        {"shadows/0.json": None},
        {"shadows/0.json": {"marker": "{}", "sizes": {}, "offsets": {}}},
        {"shadows/0.json": {"marker": 3, "sizes": [], "offsets": "x"}},
    ],
)
def test_an_index_of_another_form_is_passed_over(tmp_path: Path, results: object) -> None:
    there = open_storage("in memory", tmp_path)
    here = mirror_of(*there, tmp_path / "here")
    commit(here.folder, [0])
    here.push("", f"{name(0)}.json")
    here.write(f"shadows/{FOLDER}/wrong.json", store.encode_record({"results": results}))
    here.write(f"shadows/{FOLDER}/other.json", b"[1]")
    assert pull(mirror_of(*there, tmp_path / "other")) == set()


def test_no_summary_outlives_a_damaged_result(tmp_path: Path) -> None:
    """Otherwise a third machine would take the old result, of which the storage has another one now."""
    filesystem, root = open_storage("in memory", tmp_path)
    push(mirror_of(filesystem, root, tmp_path / "here"), range(NUM_RESULTS))
    other = mirror_of(filesystem, root, tmp_path / "other")
    discard_damaged(other, "", f"{name(3)}.json")
    assert not other.sizes(f"shadows/{FOLDER}")
    store.commit(
        other.folder, f"{name(3)}.json", id="id 3",
        files={f"{name(3)}.npy": content_of(3)[::-1], f"{name(3)}/large": b"w" * 200}, facts={"number": 3},
    )  # fmt: skip
    other.push("", f"{name(3)}.json")
    third = mirror_of(filesystem, root, tmp_path / "third")
    assert f"{name(3)}.json" not in pull(third)
    assert third.pull("", f"{name(3)}.json", id="id 3") == "intact"
    assert (third.folder / f"{name(3)}.npy").read_bytes() == content_of(3)[::-1]
