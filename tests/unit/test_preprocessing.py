"""``preprocess``: a loaded model gives, on pictures, the log-odds that the audit stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import InProcess
from PIL import Image
from small_audit import small_config

import ungan_dist
from ungan_dist import store
from ungan_dist.config.attack import AttackConfig
from ungan_dist.config.data import SourceConfig, SplitConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.record import read_run


def stored_pixels(output: Path) -> np.ndarray:
    (images,) = output.glob("data/*/images.npy")
    return np.load(images)


def log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log-odds of the true class, by definition in float64."""
    logits = logits.astype(np.float64)
    share = np.exp(logits - logits.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    true = share[np.arange(len(labels)), labels]
    return np.log(true / (share.sum(1) - true))


@pytest.mark.parametrize("method", ["original", "ungan"])
def test_pictures_give_the_log_odds_of_the_audit(finished_run: Path, method: str) -> None:
    run = finished_run / "run"
    record = read_run(run)
    plan = make_plan(record.config)
    pixels = stored_pixels(finished_run)[plan.split.pool]
    (labels,) = finished_run.glob("data/*/labels.npy")
    inputs = ungan_dist.preprocess(run, pixels)
    with torch.no_grad():
        logits = ungan_dist.load(run, method)(inputs).numpy()
    stored = np.load(run / f"log_odds/0/{method}.npy")
    np.testing.assert_allclose(stored[:, 0], log_odds(logits, np.load(labels)[plan.split.pool]), rtol=1e-4, atol=1e-4)
    for form in (torch.tensor(pixels), [Image.fromarray(picture[..., 0]) for picture in pixels]):
        assert torch.equal(ungan_dist.preprocess(run, form), inputs)
    picture = Image.fromarray(pixels[7, ..., 0])
    assert torch.equal(ungan_dist.preprocess(run, picture), inputs[7:8])


def test_the_normalisation_of_older_runs_is_that_of_their_data(output: Path) -> None:
    pixels = stored_pixels(output)[:5]
    expected = ungan_dist.preprocess(output / "run", pixels)
    config = output / "run/config.json"
    content = store.read_record(config)
    del content["pixels"]
    store.write_record(config, content)
    assert torch.equal(ungan_dist.preprocess(output / "run", pixels), expected)
    (manifest,) = output.glob("data/*/manifest.json")
    manifest.unlink()
    with pytest.raises(ConfigError, match="run the command of the run again"):
        ungan_dist.preprocess(output / "run", pixels)


def test_pictures_are_turned_converted_and_resized_as_the_run_does(tmp_path: Path, without_figures: None) -> None:
    """A picture from the folder of the run gives the run's own pixels."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"pictures/{name}/{number:02}.jpg" for name in ("cat", "dog") for number in range(60)]
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        mode = "L" if number % 5 == 0 else "RGB"
        size = (30, 20) if number % 2 else (16, 24)
        noise = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(noise).convert(mode).save(path, exif=exif)
    config = small_config(
        tmp_path / "out",
        name="custom",
        source=SourceConfig(kind="image_folder", path=str(tmp_path / "pictures"), resize=8),
        split=SplitConfig(train=40, shadow_pool=40, unseen=10, forget_fraction=0.2),
        attack=AttackConfig(fnr=0.05, num_resamples=100),
        methods=("original", "retrain"),
    )
    report = audit(config, run_units=InProcess())
    run = tmp_path / "out/run"
    assert report.folder == run
    opened = [Image.open(path) for path in paths]
    inputs = ungan_dist.preprocess(run, opened)
    assert torch.equal(inputs, ungan_dist.preprocess(run, stored_pixels(tmp_path / "out")))
    flat = inputs.permute(1, 0, 2, 3).reshape(3, -1)
    np.testing.assert_allclose(flat.mean(1), 0, atol=1e-4)  # the run's own statistics, over all of its pictures
    np.testing.assert_allclose(flat.std(1, correction=0), 1, rtol=1e-4)


def test_other_pictures_are_refused(finished_run: Path) -> None:
    run = finished_run / "run"
    pixels = stored_pixels(finished_run)[:5]
    with pytest.raises(ValueError, match=r"\(9, 8, 1\).*\(8, 8, 1\)"):
        ungan_dist.preprocess(run, np.zeros((2, 9, 8, 1), np.uint8))
    with pytest.raises(ValueError, match=r"got torch.float32 of shape \[5, 8, 8, 1\]"):
        ungan_dist.preprocess(run, torch.tensor(pixels) / 255)
    with pytest.raises(ValueError, match=r"got uint8 of shape \[8, 8, 1\]"):
        ungan_dist.preprocess(run, pixels[0])
    with pytest.raises(ValueError, match="mode RGB"):
        ungan_dist.preprocess(run, Image.new("RGB", (8, 8)))
    with pytest.raises(ValueError, match="several sizes"):
        ungan_dist.preprocess(run, [Image.new("L", (8, 8)), Image.new("L", (9, 8))])
    with pytest.raises(ConfigError, match="not a run folder"):
        ungan_dist.preprocess(finished_run, pixels)
