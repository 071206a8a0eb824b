"""Models that ``copy.deepcopy`` refuses are copied, by the public function and in whole runs, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keeping_models
import misbehaving_models
import numpy as np
import pytest
import torch
from in_process import InProcess
from small_audit import small_config
from torch import Tensor, nn

import ungan_dist
from ungan_dist.config.training import ModelConfig
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.training.copying import copy_model
from ungan_dist.training.weights import load_weights, weights_bytes

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.nn.utils.*norm. is deprecated:FutureWarning")

COPIED = ["KeepsFeatures", "weight_norm", "spectral_norm", "Locked", "Tempered", "Tied"]
BUILT_ANEW = [*COPIED, "Unpicklable", "HooksItself"]
IMAGES = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def trained(name: str, seed: int = 0) -> nn.Module:
    """Build a model and leave it as a training step leaves it, with its graph."""
    torch.manual_seed(seed)
    model = getattr(keeping_models, name)(3).train()
    model(torch.randn(4, 1, 8, 8)).square().sum().backward()
    return model


def outputs(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(IMAGES)


@pytest.mark.parametrize(
    ("name", "anew"), [*((name, False) for name in COPIED), *((name, True) for name in BUILT_ANEW)]
)
def test_a_copy_is_equal_and_independent(name: str, anew: bool) -> None:
    model = trained(name)
    before = {module: dict(vars(module)) for module in model.modules()}
    duplicate = copy_model(model, (lambda: getattr(keeping_models, name)(3)) if anew else None)
    for module, attributes in before.items():
        assert vars(module).keys() == attributes.keys()
        assert all(vars(module)[own] is value for own, value in attributes.items())
    expected = outputs(model)
    assert torch.equal(outputs(duplicate), expected)
    with torch.no_grad():
        for parameter in duplicate.parameters():
            parameter += 1
    assert torch.equal(outputs(model), expected)
    assert not torch.allclose(outputs(duplicate), expected)


def forget_data() -> ungan_dist.ForgetData:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), np.uint8)
    labels = np.arange(40) % 3
    return ungan_dist.ForgetData(
        images=images, labels=labels, forget=range(5), retain=range(5, 30), unseen=range(30, 40)
    )


@pytest.mark.parametrize("name", COPIED)
def test_a_trained_model_is_unlearned_and_itself_unchanged(name: str) -> None:
    model, data = trained(name), forget_data()
    before = [value.clone() for value in model.state_dict().values() if isinstance(value, Tensor)]
    unlearned = ungan_dist.unlearn(model, data, "original")
    assert ungan_dist.unlearn(model, data, "fine_tuning") is not model
    now = [value for value in model.state_dict().values() if isinstance(value, Tensor)]
    assert all(map(torch.equal, now, before))
    assert torch.equal(outputs(unlearned), outputs(model))


def test_what_a_model_keeps_makes_no_difference_to_what_it_learns() -> None:
    model = trained("KeepsFeatures")
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    for method in ("neg_grads", "scrub", "ungan"):
        ours, theirs = (ungan_dist.unlearn(one, forget_data(), method) for one in (model, plain))
        assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("HooksItself", "images"),
        ("HoldsItself", "lambda or a hook"),
        ("CopiesAsItself", "shares weights with it"),
        ("Unpicklable", "cannot be copied .*generator.*--model"),
    ],
)
def test_a_model_whose_deep_copy_is_not_its_own_is_refused(name: str, words: str) -> None:
    model = trained(name) if hasattr(keeping_models, name) else getattr(misbehaving_models, name)(3)
    with pytest.raises(ValueError, match=words):
        ungan_dist.unlearn(model, forget_data(), "fine_tuning")


@pytest.mark.process
@pytest.mark.parametrize("name", ["Tempered", "HooksItself"])
def test_a_run_copies_stores_and_loads_such_a_model(name: str, tmp_path: Path) -> None:
    """The stored log-odds are those of the loaded model, computed here from pixels."""
    methods = ("original", "neg_grads")
    config = small_config(tmp_path, model=ModelConfig(factory=f"keeping_models:{name}"), methods=methods)
    audit(config, run_units=InProcess())
    plan = make_plan(config)
    source, pool = plan.source, plan.originals[0].split.pool
    pixels = (source.images[pool] / 255 - np.array(source.mean)) / np.array(source.std)
    for method in methods:
        with torch.no_grad():
            model = ungan_dist.load(tmp_path / "run", method, trust=True)
            logits = model(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).double().numpy()
        true = np.arange(len(pool)), source.labels[pool]
        others = np.exp(logits).sum(1) - np.exp(logits[true])
        stored = np.load(tmp_path / f"run/log_odds/0/{method}.npy")[:, 0]
        np.testing.assert_allclose(stored, logits[true] - np.log(others), rtol=1e-3, atol=1e-3)


def test_extra_state_is_written_to_the_same_bytes_and_read(tmp_path: Path) -> None:
    model = trained("Tempered")
    assert weights_bytes(model) == weights_bytes(copy_model(model))
    (tmp_path / "w.safetensors").write_bytes(weights_bytes(model))
    loaded: Any = load_weights(keeping_models.Tempered(3), tmp_path / "w.safetensors")
    assert loaded.temperature == 1.125
    torch.save(model.state_dict(), tmp_path / "w.pt")


class Holding(nn.Linear):
    """Its extra state is an object of its own class."""

    def get_extra_state(self) -> object:
        return object()

    def set_extra_state(self, state: object) -> None:
        pass


def test_extra_state_with_code_is_refused() -> None:
    with pytest.raises(ValueError, match=r"_extra_state holds object, .*get_extra_state return tensors, numbers"):
        weights_bytes(Holding(2, 2))
