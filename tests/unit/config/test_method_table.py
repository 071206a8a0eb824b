"""Every list, title, option and help text of a method derives from its line in the table of methods."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from ungan_dist.config.audit import AuditConfig, method_config
from ungan_dist.config.methods import DEFAULT_ROWS, ROWS, TITLES, MethodConfigs, check_method, function_path

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ROWS)
def test_each_row_has_a_function_that_takes_its_config(name: str) -> None:
    settings = method_config(AuditConfig(name="all"), name)
    module, _, function = function_path(settings).partition(":")
    assert isinstance(settings, ROWS[name].config)
    hints = typing.get_type_hints(getattr(importlib.import_module(module), function))
    assert hints["config"] is ROWS[name].config


def test_no_two_methods_share_a_config_class_or_a_title() -> None:
    names = [field.name for field in dataclasses.fields(MethodConfigs)]
    assert len({ROWS[name].config for name in [*names, "unlearned"]}) == len(names) + 1
    assert len(set(TITLES.values())) == len(ROWS)
    assert set(DEFAULT_ROWS) < set(ROWS)


def test_an_unknown_row_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown method 'magic'; known: original, retrain, .*ungan_augmented"):
        AuditConfig(name="all", methods=("original", "magic"))
    with pytest.raises(ValueError, match=r"unknown method \['ungan'\].*; known: original"):
        inspect.unwrap(check_method)(["ungan"])


TOY_CONFIG = '''

@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """Toy: add noise to the weights."""

    scale: float = 0.5
    """Size of the noise."""
'''
TOY_LINE = '    toy: ToyConfig = method("Toy", ToyConfig, "toy:toy")\n'
TOY_FUNCTION = """
from ungan_dist.config.methods.baselines import ToyConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.models import trainable_copy

def toy(request: Request, config: ToyConfig) -> Unlearned:
    model = trainable_copy(request.original)
    for parameter in model.parameters():
        parameter.data.add_(config.scale)
    return Unlearned(model=model.eval(), curves={})
"""
USE = """
import numpy as np, torch, ungan_dist
from ungan_dist.commands.options import recipe_config
from ungan_dist.config.methods import TITLES

config = recipe_config(["digits", "--methods", "original,toy", "--toy.scale", "0.25"], command="run")
assert (config.methods, config.toy.scale, TITLES["toy"]) == (("original", "toy"), 0.25, "Toy")
assert "toy" in ungan_dist.recipes.digits().methods
images = np.zeros((30, 4, 4, 1), np.uint8)
data = ungan_dist.ForgetData(images=images, labels=np.arange(30) % 3, forget=range(10), retain=range(10, 20),
                             unseen=range(20, 30))
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
bias = model[1].bias.detach().clone()
assert torch.equal(ungan_dist.unlearn(model, data, "toy", config=config)[1].bias, bias + 0.25)
recipe_config(["digits", "--help"], command="run")
"""


def test_a_new_method_needs_one_line_one_config_class_and_one_file(tmp_path: Path) -> None:
    package = tmp_path / "ungan_dist"
    shutil.copytree(ROOT / "ungan_dist", package, ignore=shutil.ignore_patterns("__pycache__"))
    table, configs = package / "config/methods/__init__.py", package / "config/methods/baselines.py"
    before = table.read_text()
    after = before.replace("    ungan: UnGANConfig", TOY_LINE + "    ungan: UnGANConfig")
    table.write_text(after.replace("    UnlearnedConfig,\n", "    ToyConfig,\n    UnlearnedConfig,\n", 1))
    configs.write_text(configs.read_text() + TOY_CONFIG)
    (package / "methods/toy.py").write_text(TOY_FUNCTION)
    done = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.replace("│", " ").split())
    assert "--toy.scale" in shown
    assert "Size of the noise." in shown
    assert "cf_k, toy, ungan, ungan_joint, ungan_bce, ssd, salun," in shown
