"""Options of the data on the command line: sizes that follow the data, and pictures of different sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from custom_audit import SHORT
from in_process import assert_refused, run_command
from PIL import Image

from ungan_dist.data.sources.source import load_source
from ungan_dist.runs.record import read_run


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """120 pictures of two classes and several sizes."""
    rng = np.random.default_rng(0)
    for number in range(120):
        folder = tmp_path / "pictures" / ("dark", "bright")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, (8 + number % 3, 9, 3)) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03}.jfif", "JPEG")
    return tmp_path / "pictures"


def test_plan_shows_sets_that_follow_the_data(mixed: Path) -> None:
    options = ("--no-probe", "--source.path", mixed, "--output", mixed.parent / "out")
    assert_refused(run_command("plan", "custom", *options), "8 pixels", "--source.resize")
    done = run_command("plan", "custom", *options, "--source.resize", "8")
    assert done.returncode == 0, done.stderr
    assert "examples     retain 46, forget 2, non-members 48, unseen 12, test 12" in done.stdout
    done = run_command("plan", "custom", *options, "--source.resize", "8", "--split.train", "40", "--attack.fnr", "0.1")
    assert "examples     retain 38, forget 2, non-members 40, unseen 20, test 20" in done.stdout
    assert_refused(
        run_command("plan", "custom", *options, "--source.resize", "8", "--split.train", "60"), "the split needs 122"
    )


def test_the_folder_of_the_data_is_no_output(mixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mixed)
    for output in (mixed, ".", "bright/.."):
        refused = run_command("run", "custom", "--source.path", ".", "--source.resize", "8", "--output", output)
        assert_refused(refused, "is the folder of the data", "such as", "runs")


@pytest.mark.process
@pytest.mark.usefixtures("without_figures")
def test_a_run_on_resized_pictures_is_finished_continued_and_purged(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mixed)  # the output lies within the data
    arguments = ("custom", "--source.path", ".", "--source.resize", "8", "--methods", "original,retrain", *SHORT)
    first = run_command("run", *arguments)
    assert first.returncode == 0, first.stderr
    (run,) = Path("out").glob("custom-*")
    record = read_run(run)
    assert (record.config.split.train, record.config.split.unseen, record.config.source.resize) == (48, 12, 8)
    with monkeypatch.context() as patch:  # a finished run is printed without a new plan
        patch.setattr("ungan_dist.launch.audit", None)
        again = run_command("run", *arguments)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert run_command("verify", run).stdout == "COMPLETE\n"
    before = (run / "table.json").read_bytes()
    assert run_command("report", run).returncode == 0
    assert (run / "table.json").read_bytes() == before
    source = load_source(record.config.source)
    assert any(str(name).endswith("images.npy") for name in Path("out/data").rglob("*"))
    assert source.images.shape == (120, 8, 8, 3)
    done = run_command("purge", run)
    assert done.returncode == 0, done.stderr + done.stdout
    assert not list(Path("out/data").rglob("images.npy"))
