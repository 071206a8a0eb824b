"""Models made by libraries' functions: how they are called, and their first layer on images of other channels."""

from __future__ import annotations

from pathlib import Path

import library_models
import pytest
import torch
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS
from torch import nn

import ungan_dist
from ungan_dist.config.training import ModelConfig
from ungan_dist.runs.record import read_plain
from ungan_dist.training.factories import call_factory, hash_architecture
from ungan_dist.training.first_layer import fit_first_layer
from ungan_dist.training.models import build


def built(factory: str, channels: int, seed: int = 0, size: tuple[int, int] = (8, 8)) -> nn.Module:
    config = ModelConfig(factory=factory)
    device = torch.device("cpu")
    return build(config, channels=channels, num_classes=5, seed=seed, device=device, size=size)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["like_torchvision", "like_timm", "Normalises"])
def test_the_layer_that_the_images_enter_is_fitted(name: str, channels: int) -> None:
    state = torch.get_rng_state()
    model = built(f"library_models:{name}", channels)
    assert torch.equal(torch.get_rng_state(), state)
    assert model(torch.zeros(2, channels, 8, 8)).shape == (2, 5)
    layer = model.get_submodule("stem.0")
    assert isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.out_channels) == (channels, 4)
    assert (layer.kernel_size, layer.stride, layer.padding, layer.bias) == ((3, 3), (2, 2), (1, 1), None)
    same, other = built(f"library_models:{name}", channels), built(f"library_models:{name}", channels, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same.parameters(), strict=True))
    assert not torch.equal(layer.weight, other.get_submodule("stem.0").weight)


@pytest.mark.parametrize(("factory", "channels"), [("RepeatsGrey", 1), ("like_torchvision", 3)])
def test_a_model_that_takes_the_images_is_left_as_it_is(factory: str, channels: int) -> None:
    torch.manual_seed(0)
    model = call_factory(f"library_models:{factory}", channels, 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert fit_first_layer(model, channels, (8, 8)) == ""
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_a_model_without_convolutions_is_left_as_it_is() -> None:
    assert fit_first_layer(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), 1, (8, 8)) == ""


def assert_plan_refused(factory: str, folder: Path, *words: str) -> None:
    options = [*SMALL_OPTIONS, "--model.factory", f"library_models:{factory}", "--output", folder / "out"]
    assert_refused(run_command("plan", "digits", *options, "--no-probe"), *words)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Grouped", "3 groups"),
        ("OwnConvolution", "_Own, not a plain Conv2d"),
        ("InTwoPlaces", "several places"),
        ("FrozenStem", "frozen"),
        ("FrozenBias", "frozen"),
        ("HookedStem", "hooks"),
    ],
)
def test_a_layer_that_cannot_be_replaced_is_refused_at_once(name: str, words: str, tmp_path: Path) -> None:
    assert_plan_refused(name, tmp_path, "1 channel(s)", "stem.0", "takes 3", words, "let the factory take channels=")


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("by_flag", "pretrained=False"),
        ("by_member", "weights=None"),
        ("by_name", "weights=None"),
        ("by_backbone", "weights_backbone=None"),
        ("by_encoder", "encoder_weights=None"),
    ],
)
def test_a_function_that_loads_weights_by_default_is_refused(name: str, off: str, tmp_path: Path) -> None:
    assert_plan_refused(name, tmp_path, "trained elsewhere", off, "forget examples", "function of your own")


def test_parameters_of_these_names_that_load_nothing_are_fine() -> None:
    assert built("library_models:with_numbers", 3)(torch.zeros(1, 3, 8, 8)).shape == (1, 5)


def test_a_model_is_made_by_its_name() -> None:
    assert built("library_models:small_net.tag", 1)(torch.zeros(1, 1, 8, 8)).shape == (1, 5)
    with pytest.raises(ValueError, match=r"Unknown model \(absent\)"):
        call_factory("library_models:absent", 1, 5)
    with pytest.raises(ValueError, match=r"create_model needs model_name.*write module:NAME"):
        call_factory("library_models:create_model", 1, 5)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("module", ["timm", "timm.models"])
@pytest.mark.parametrize("channels", [1, 3])
def test_timms_own_functions_work(name: str, module: str, channels: int) -> None:
    pytest.importorskip("timm")
    size = (32, 32) if name == "resnet18" else (224, 224)
    assert built(f"{module}:{name}", channels, size=size).eval()(torch.zeros(1, channels, *size)).shape == (1, 5)


@pytest.mark.parametrize("channels", [1, 3])
def test_torchvisions_own_functions_work(channels: int) -> None:
    model = built("torchvision.models:resnet18", channels, size=(32, 32)).eval()
    assert model(torch.zeros(1, channels, 32, 32)).shape == (1, 5)


@pytest.mark.process
def test_grey_digits_are_audited_with_a_model_for_colour(tmp_path: Path, without_figures: None) -> None:
    options = [*SMALL_OPTIONS, "--methods", "original,retrain", "--output", tmp_path / "out"]
    done = run_command("run", "digits", *options, "--model.factory", "library_models:like_torchvision")
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out/run"
    note = "The first layer of the model, stem.0, took 3 channels. It was replaced by one for the 1 channel(s)"
    assert note in (folder / "report.html").read_text()
    model = ungan_dist.load(folder, "retrain", model=library_models.like_torchvision)
    assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    fitted = library_models.like_torchvision(num_classes=10, in_chans=1)
    assert hash_architecture(fitted) == read_plain(folder)["architecture"]
