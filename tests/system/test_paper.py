"""The recipe `paper`, cut down to a few steps and shadow models, runs to its end."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

from ungan_dist.config.data import SplitConfig
from ungan_dist.config.methods import UnGANConfig, UNSIRConfig
from ungan_dist.config.recipes import paper
from ungan_dist.config.training import ShadowConfig
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.units import execute

PARQUET = Path(os.environ.get("CIFAR10_PARQUET", Path(__file__).parents[3] / "shared/data/cifar10-jpeg"))


@pytest.mark.process
@pytest.mark.timeout(400)
def test_the_recipe_paper_cut_down_runs_every_row_end_to_end(tmp_path: Path) -> None:
    if not PARQUET.is_dir():
        pytest.skip(f"no CIFAR-10 Parquet files at {PARQUET}: set CIFAR10_PARQUET")
    for name, num_rows in (("train", 400), ("test", 60)):
        table = pyarrow.parquet.read_table(PARQUET / f"{name}.parquet").slice(0, num_rows)
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    recipe = paper()
    config = replace(
        recipe,
        source=replace(recipe.source, path=str(tmp_path)),
        split=SplitConfig(train=120, shadow_pool=120, unseen=40, forget_fraction=0.1),
        train=replace(recipe.train, epochs=1, batch_size=60),
        shadows=ShadowConfig(num_models=4, unit_size=2),
        attack=replace(recipe.attack, num_resamples=100),
        num_seeds=1,
        fine_tuning=replace(recipe.fine_tuning, epochs=1),
        random_labels=replace(recipe.random_labels, epochs=1),
        neg_grads=replace(recipe.neg_grads, epochs=1),
        adv_neg_grads=replace(recipe.adv_neg_grads, epochs=1),
        cf_k=replace(recipe.cf_k, epochs=1),
        unsir=UNSIRConfig(impair_epochs=1, noise_steps=1),
        ungan=UnGANConfig(epochs=1),
        output=str(tmp_path / "runs"),
    )
    report = audit(config, run_units=lambda units: map(execute, units))
    assert report.status == "COMPLETE"
    assert [row.method for row in report.rows] == list(recipe.methods)
    assert report.title.startswith("CIFAR-10")
