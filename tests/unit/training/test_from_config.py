"""Models of the library transformers, made from their configs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ungan_dist.config.training import ModelConfig
from ungan_dist.training.models import build

VIT = "transformers:ViTForImageClassification"
SMALL = ("hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=32", "patch_size=4")


def make(factory: str, *options: str, channels: int = 1, size: tuple[int, ...] = (8, 8), seed: int = 0) -> nn.Module:
    config = ModelConfig(factory=factory, options=options)
    return build(config, channels=channels, num_classes=5, seed=seed, device=torch.device("cpu"), size=size)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_class_is_made_for_the_pictures_with_weights_of_the_seed(channels: int) -> None:
    pytest.importorskip("transformers")
    images = torch.randn(2, channels, 8, 8)
    one, same, other = (make(VIT, *SMALL, channels=channels, seed=seed).eval() for seed in (0, 0, 1))
    assert one(images).shape == (2, 5)
    assert torch.equal(one(images), same(images))
    assert not torch.equal(one(images), other(images))


def test_a_folder_gives_its_config_and_no_weights(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    given = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=4
    )
    transformers.ViTForImageClassification(given).save_pretrained(tmp_path)
    model = make(f"transformers:{tmp_path}", channels=3, size=(16, 16))
    saved = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 5)
    found, before = (one.vit.embeddings.patch_embeddings.projection.weight for one in (model, saved))
    assert found.shape == before.shape
    assert not torch.equal(found, before)


def test_what_the_library_does_not_have_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "unheard-of"}))
    for factory, options, word in [
        ("transformers:Absent", (), "has no model of this name"),
        (VIT, ("hiden_size=3",), "has no hiden_size"),
        (f"transformers:{tmp_path}", (), "reading its config raised"),
    ]:
        with pytest.raises(ValueError, match=word):
            make(factory, *options)


def test_without_the_library_and_for_tables_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"takes pictures.*--model.name mlp"):
        make(VIT, size=())
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"extra transformers installs.*needs transformers"):
        make(VIT)


def test_options_reach_a_factory_and_cannot_choose_weights_or_classes() -> None:
    assert make("user_models:perceptron", "width=3", channels=7, size=())[0].weight.shape == (3, 7)
    for option in ("num_classes=3", "pretrained=true", "weights=DEFAULT"):
        with pytest.raises(ValueError, match=r"model.options cannot set"):
            make("user_models:linear", option)
    with pytest.raises(ValueError, match=r"depth='two'.*raised TypeError"):
        make("user_models:linear", "depth=two")
    with pytest.raises(ValueError, match=r"must be like hidden_size=192"):
        ModelConfig(factory="a:b", options=("width",))
    with pytest.raises(ValueError, match=r"model.options are for --model"):
        ModelConfig(options=("width=3",))
