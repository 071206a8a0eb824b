"""The commit protocol: all of a result or none of it, and nothing altered passes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ungan_dist import store


def commit(root: Path, content: bytes = b"weights", id: str = "a") -> None:
    store.commit(root, "result.json", id=id, files={"deep/file.bin": content}, facts={"loss": 0.5})


def test_a_committed_result_is_found_with_its_facts(tmp_path: Path) -> None:
    assert store.committed(tmp_path, "result.json", id="a") is None
    commit(tmp_path)
    assert store.committed(tmp_path, "result.json", id="a") == {"loss": 0.5}
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["file.bin", "result.json"]


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "absent", "marker cut", "marker of a list", "marker binary"]
)
def test_a_damaged_result_is_not_committed(tmp_path: Path, damage: str) -> None:
    commit(tmp_path)
    file, marker = tmp_path / "deep/file.bin", tmp_path / "result.json"
    match damage:
        case "truncated":
            file.write_bytes(b"weigh")
        case "flipped":
            file.write_bytes(b"weightz")
        case "absent":
            file.unlink()
        case "marker cut":
            marker.write_bytes(marker.read_bytes()[:20])
        case "marker of a list":
            marker.write_bytes(b"[]")
        case _:
            marker.write_bytes(b"\xff\xfe\x00")
    assert store.committed(tmp_path, "result.json", id="a") is None
    commit(tmp_path)
    assert store.committed(tmp_path, "result.json", id="a") is not None


def test_another_id_is_another_result(tmp_path: Path) -> None:
    commit(tmp_path)
    assert store.committed(tmp_path, "result.json", id="b") is None


def _commit_until_killed(root: Path, steps: int) -> None:
    """Dies by SIGKILL at one of the calls that change the file system."""
    count = 0

    def dying(original):
        def call(*args, **kwargs):
            nonlocal count
            if count == steps:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return original(*args, **kwargs)

        return call

    os.fsync, Path.rename, os.open = dying(os.fsync), dying(Path.rename), dying(os.open)  # pyright: ignore
    commit(root, content=b"new")


@pytest.mark.process
def test_a_kill_at_any_step_leaves_the_old_result_or_the_new_one_or_none(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    seen = set()
    for steps in range(20):
        root = tmp_path / str(steps)
        root.mkdir()
        process = context.Process(target=_commit_until_killed, args=(root, steps))
        process.start()
        process.join()
        facts = store.committed(root, "result.json", id="a")
        if process.exitcode == 0:
            assert facts is not None
            break
        assert process.exitcode == -signal.SIGKILL
        assert facts is None or (root / "deep/file.bin").read_bytes() == b"new"
        seen.add(facts is None)
        commit(root)
        assert store.committed(root, "result.json", id="a") is not None
    else:
        raise AssertionError("the commit never reached its end")
    assert steps >= 8  # two files: aside, fsync, rename, fsync of the folder, each
    assert seen == {True, False}


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_keeps_committed_results_and_leaves_no_temporary_files(tiny_disk: Path) -> None:
    commit(tiny_disk)
    with pytest.raises(OSError, match="No space left"):
        store.commit(tiny_disk, "big.json", id="b", files={"big.bin": bytes(1_000_000)})
    assert store.committed(tiny_disk, "result.json", id="a") is not None
    assert store.committed(tiny_disk, "big.json", id="b") is None
    assert not list(tiny_disk.rglob("*.tmp"))


def test_arrays_are_read_back_and_pickles_are_refused(tmp_path: Path) -> None:
    array = np.arange(6.0).reshape(2, 3)
    (tmp_path / "array.npy").write_bytes(store.array_bytes(array))
    assert (store.read_array(tmp_path / "array.npy") == array).all()
    assert (store.read_array(tmp_path / "array.npy", mapped=True) == array).all()
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(store.CorruptResult, match=r"pickle\.npy"):
        store.read_array(tmp_path / "pickle.npy")
    with pytest.raises(ValueError, match="allow_pickle"):
        store.array_bytes(np.array([{"a": 1}], dtype=object))


def _hold(folder: Path, ready: multiprocessing.Event) -> None:  # pyright: ignore
    with store.run_lock(folder):
        ready.set()
        signal.pause()


@pytest.mark.process
def test_a_folder_has_one_driver_and_a_dead_driver_releases_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(BlockingIOError, match="another process"), store.run_lock(tmp_path):
        pass
    holder.kill()
    holder.join()
    with store.run_lock(tmp_path):
        pass


def test_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        store.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def modes(folder: Path) -> dict[str, str]:
    return {path.name: oct(path.stat().st_mode & 0o7777)[2:] for path in (folder, *folder.rglob("*"))}


@pytest.fixture
def permissive() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("permissive")
def test_new_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    output = tmp_path / "new/out"
    commit(output)
    with store.run_lock(output):
        pass
    assert modes(tmp_path / "new") == {
        "new": "700",
        "out": "700",
        "deep": "700",
        "file.bin": "600",
        "result.json": "600",
        ".lock": "600",
    }


@pytest.mark.parametrize(("mode", "folder", "file"), [(0o2770, "2770", "660"), (0o2750, "2750", "640")])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_folder_with_the_setgid_bit_is_shared_with_its_group(
    tmp_path: Path, mode: int, folder: str, file: str, umask: int
) -> None:
    output = tmp_path / "shared"
    output.mkdir()
    output.chmod(mode)
    before = os.umask(umask)
    try:
        commit(output)
    finally:
        os.umask(before)
    assert modes(output) == {"shared": folder, "deep": folder, "file.bin": file, "result.json": file}


def test_a_file_in_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "deep").write_bytes(b"")
    for name in ("deep/file.bin", "deep/er/file.bin"):
        with pytest.raises(NotADirectoryError):
            store.write_file(tmp_path / name, b"")
