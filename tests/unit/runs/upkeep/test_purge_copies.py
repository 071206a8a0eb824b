"""Copies that people and tools make inside an output folder: a purge removes them, or names them and exits with 3."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from damaged_records import rewrite
from in_process import run_command

from ungan_dist import load

pytestmark = pytest.mark.usefixtures("without_figures")


def holders(output: Path, needle: bytes) -> list[str]:
    files = [path for path in output.rglob("*") if path.is_file() and needle in path.read_bytes()]
    return [path.relative_to(output).as_posix() for path in files]


def copy(output: Path, source: str, place: str) -> bytes:
    """Copy a file of a run; return bytes that show where its content is."""
    (original,) = output.glob(source)
    path = output / place.format(data=next(output.glob("data/*")).name)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(original, path)
    return original.read_bytes()[-1000:]


@pytest.mark.parametrize(
    "place",
    [
        *("run/models/0/original-copy.safetensors", "run/models/0/Original.safetensors", "run/models/0/original~"),
        *("run/models/0/ungan (copy).safetensors", "run/models/1/ungan.safetensors", "run/figures/a.svg"),
        *("run/results/0/a.json", "run/.table.json.swp", "run/old/table.json", "run/reports/old/report.html"),
        "run/reports/4-shadows-1-seed-1a2b3c4d (copy)/table.json",
    ],
)
def test_copies_of_a_model_are_removed(output: Path, place: str) -> None:
    needle = copy(output, "run/models/0/original.safetensors", place)
    done = run_command("purge", output / "run")
    assert done.returncode == 0, done.stderr
    assert holders(output, needle) == []
    assert load(output / "run", "ungan")


@pytest.mark.parametrize("place", ["data/{data}/old/images.npy", "data/{data}/images.npy~", "shadows/images.npy"])
def test_copies_of_pictures_in_the_runs_own_data_are_removed(output: Path, place: str) -> None:
    needle = copy(output, "data/*/images.npy", place)
    done = run_command("purge", output / "run")
    assert done.returncode == 0, done.stderr
    assert holders(output, needle) == []


@pytest.mark.parametrize(
    "place",
    ["data/images.npy", "data/0/1/images.npy", "data/0/pictures.npy", "shadows/images.npy.bak", "shadows/.x.npy"],
)
def test_other_copies_of_pictures_are_named(output: Path, place: str) -> None:
    needle = copy(output, "data/*/images.npy", place)
    done = run_command("purge", output / "run")
    assert done.returncode == 3
    assert f"1 files in {output}/data and {output}/shadows are not from this software" in done.stderr
    assert f"The first is {output}/{place}" in done.stderr
    assert holders(output, needle) == [place]
    (output / place).unlink()
    assert run_command("purge", output / "run").returncode == 0


def test_a_model_that_is_damaged_does_not_stay(output: Path) -> None:
    path = output / "run/models/0/ungan.safetensors"
    path.write_bytes((output / "run/models/0/original.safetensors").read_bytes())
    assert run_command("purge", output / "run").returncode == 0
    assert not path.exists()


def test_the_status_keeps_no_text_of_an_error(output: Path) -> None:
    rewrite(output / "run/status.json", state="FAILED", error="patient_17.png is damaged", failed=["patient_17.png"])
    assert run_command("purge", output / "run").returncode == 0
    assert holders(output, b"patient_17") == []
    assert "PURGED" in run_command("status", output / "run").stdout


def test_an_array_that_claims_more_than_its_file_holds_is_refused(output: Path) -> None:
    from ungan_dist import store
    from ungan_dist.files import hash_file

    path, marker = output / "run/log_odds/0/ungan.npy", output / "run/results/0/ungan.json"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
    files = store.read_marker(marker)["files"]
    rewrite(marker, files=files | {"log_odds/0/ungan.npy": hash_file(path)})
    for words in (["verify", output / "run"], ["report", output / "run"]):
        done = run_command(*words)
        assert (done.returncode, done.stderr.count("Traceback")) == (1, 0)
        assert "ungan.npy is not a readable array" in done.stderr
