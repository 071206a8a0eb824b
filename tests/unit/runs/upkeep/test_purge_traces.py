"""What a purge could leave behind: links, moved folders, figures of single people, files that it may not delete."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from in_process import InProcess, run_command
from small_audit import small_config

from ungan_dist import load, store
from ungan_dist.runs.pipeline import audit


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["data/*/images.npy", "run/membership.npy", "run/models", "run/log_odds/0", "run/report.html"]
)
def test_pixels_behind_a_link_are_named_until_they_are_gone(output: Path, tmp_path: Path, name: str) -> None:
    (path,) = output.glob(name)
    target = tmp_path / "elsewhere"
    path.rename(target)
    path.symlink_to(target)
    done = run_command("purge", output / "run")
    assert done.returncode == 3, done.stdout
    assert f"{path} is a symbolic link to {target}" in done.stderr
    assert target.exists()
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    again = run_command("purge", output / "run")
    assert (again.returncode, again.stderr) == (0, "")
    assert not os.path.lexists(path)


@pytest.mark.parametrize("name", ["data", "data/*", "shadows"])
def test_data_behind_a_linked_folder_are_removed(output: Path, tmp_path: Path, name: str) -> None:
    (path,) = output.glob(name)
    path.rename(tmp_path / "disk")
    path.symlink_to(tmp_path / "disk")
    done = run_command("purge", output / "run")
    assert done.returncode == 0, done.stderr
    assert not names(tmp_path / "disk")


def test_a_linked_run_folder_is_refused_unless_its_data_are_beside_it(output: Path, tmp_path: Path) -> None:
    (output / "latest").symlink_to("run")
    assert run_command("purge", output / "latest", "--dry-run").returncode == 0
    (output / "run").rename(tmp_path / "moved")
    (output / "run").symlink_to(tmp_path / "moved")
    done = run_command("purge", output / "run")
    assert done.returncode == 2
    assert f"symbolic link to {tmp_path / 'moved'}, and {output / 'data'}" in done.stderr
    done = run_command("purge", tmp_path / "moved")
    assert done.returncode == 3
    assert "if the run or the pictures were moved" in done.stderr


def test_hard_links_are_named(output: Path, tmp_path: Path) -> None:
    (images,) = output.glob("data/*/images.npy")
    os.link(images, tmp_path / "kept.npy")
    done = run_command("purge", output / "run")
    assert done.returncode == 3
    assert (
        f"1 files have further names on this disk (hard links), which keep their content: find and delete those too. "
        f"The first is {images}" in done.stderr
    )


@pytest.mark.parametrize(("num_forget", "is_kept"), [(1, False), (9, False), (10, True)])
def test_aggregates_over_very_few_people_go_too(tmp_path: Path, num_forget: int, is_kept: bool) -> None:
    config = small_config(tmp_path / "out", methods=("original", "fine_tuning"))
    config = replace(config, split=replace(config.split, forget_fraction=num_forget / 200))
    assert config.split.num_forget == num_forget
    audit(replace(config, train=replace(config.train, epochs=1)), run_units=InProcess())
    run = tmp_path / "out/run"
    before = load(run, "fine_tuning").state_dict()
    figures = {name for name in names(run) if name.startswith("figures/")}
    assert figures
    assert run_command("purge", run).returncode == 0
    aggregates = {"table.json", "table.md", "timings.json", "report.html", "report.json", *figures}
    assert names(run) & aggregates == (aggregates if is_kept else set())
    accuracies = [store.read_marker(path)["facts"].get("accuracy") for path in run.glob("results/0/*.json")]
    assert all((accuracy is not None) == is_kept for accuracy in accuracies)
    after = load(run, "fine_tuning").state_dict()
    assert all((before[name] == after[name]).all() for name in before)
    refused = run_command("report", run)
    assert refused.returncode == 2
    assert ("Aggregates are kept" in refused.stderr) == is_kept


@pytest.fixture
def other_user() -> Iterator[Path]:
    """A folder that an unprivileged user owns; root may write everywhere."""
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        yield folder
        os.seteuid(0)
    else:
        yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


@pytest.mark.parametrize("place", ["run/log_odds/0", "run", "shadows"])
def test_files_that_may_not_be_deleted_end_in_a_sentence(finished_run: Path, other_user: Path, place: str) -> None:
    os.seteuid(os.getuid())
    shutil.copytree(finished_run, other_user / "out")
    if os.getuid() == 0:
        for path in (other_user / "out").rglob("*"):
            os.chown(path, 65534, 65534)
        os.chown(other_user / "out", 65534, 65534)
        os.seteuid(65534)
    folder = other_user / "out" / place
    folder.chmod(0o500)
    done = run_command("purge", other_user / "out/run")
    assert (done.returncode, done.stderr.count("Traceback")) == (3, 0), done.stderr
    assert "Permission denied" in done.stderr
    assert "Forget data remain" in done.stderr
    assert run_command("verify", other_user / "out/run").stdout in ("CORRUPT\n", "COMPLETE\n")
    folder.chmod(0o700)
    assert run_command("purge", other_user / "out/run").returncode == 0
    assert not [name for name in names(other_user) if name.endswith(".npy")]
