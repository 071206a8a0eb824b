"""A whole audit in seconds, on real digits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import SplitConfig
from ungan_dist.config.execution import ExecutionConfig
from ungan_dist.config.methods import UnGANConfig
from ungan_dist.config.recipes import digits
from ungan_dist.config.training import ModelConfig, ShadowConfig


def small_config(output: Path, **changes: object) -> AuditConfig:
    """The recipe ``digits`` cut down: 200 examples, 4 shadow models, 1 seed."""
    recipe = digits()
    config = dataclasses.replace(
        recipe,
        split=SplitConfig(train=200, shadow_pool=200, unseen=50, forget_fraction=0.2),
        model=ModelConfig(width=4),
        train=dataclasses.replace(recipe.train, epochs=3),
        shadows=ShadowConfig(num_models=4, unit_size=2, queries=("plain", "shift")),
        attack=dataclasses.replace(recipe.attack, num_resamples=100),
        methods=("original", "retrain", "ungan"),
        num_seeds=1,
        ungan=UnGANConfig(epochs=1, critic_widths=(8, 8, 8)),
        output=str(output),
        execution=ExecutionConfig(num_processes=2, progress="none", run_name="run"),
    )
    return dataclasses.replace(config, **changes)


SMALL_OPTIONS = [
    *("--split.train", "200", "--split.shadow-pool", "200", "--split.unseen", "50"),
    *("--model.width", "4", "--train.epochs", "3", "--shadows.num-models", "4", "--shadows.unit-size", "2"),
    *("--attack.num-resamples", "100", "--methods", "original,retrain,ungan", "--num-seeds", "1"),
    *("--ungan.epochs", "1", "--ungan.critic-widths", "8", "8", "8"),
    *("--execution.num-processes", "1", "--execution.run-name", "run"),
]
"""The same audit on the command line."""
