"""A batch of one example in training: where a batch norm would see one value per channel, all use running ones."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import keeping_models
import numpy as np
import pytest
import torch
from in_process import run_command
from PIL import Image
from process_groups import in_world
from sklearn.datasets import load_digits
from tiny_request import tiny_request
from torch import Tensor, nn
from torch.nn import functional

import ungan_dist
from ungan_dist.config.methods import DEFAULT_ROWS, FineTuningConfig
from ungan_dist.config.recipes import custom
from ungan_dist.config.training import TrainConfig
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.train import train


def settled(seed: int = 0) -> nn.Module:
    """The model with statistics of real batches."""
    torch.manual_seed(seed)
    model = keeping_models.mlp_bn(3).train()
    for _ in range(3):
        model(torch.randn(20, 1, 8, 8))
    return model


def data(num_retain: int) -> ungan_dist.ForgetData:
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), np.uint8)
    sets = {"forget": [0], "retain": range(1, 1 + num_retain), "unseen": range(20, 30)}
    return ungan_dist.ForgetData(images=images, labels=np.arange(30) % 3, mean=(0.5,), std=(0.25,), **sets)


@pytest.mark.parametrize("method", DEFAULT_ROWS)
@pytest.mark.parametrize("num_retain", [1, 5])
def test_one_example_is_unlearned_by_every_method(method: str, num_retain: int) -> None:
    """With five retain examples in batches of four, the last batch is one example."""
    config = custom()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=4))
    unlearned = ungan_dist.unlearn(settled(), data(num_retain), method, config=config)
    assert all(torch.isfinite(value).all() for value in unlearned.state_dict().values())
    with torch.no_grad():
        assert torch.isfinite(unlearned(torch.randn(1, 1, 8, 8))).all()


class _TakesOne(nn.BatchNorm1d):
    """Normalises one example itself, as torch's batch norm does not."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if len(input) > 1 else input * self.weight + self.bias


def test_a_norm_that_takes_one_example_is_left_alone() -> None:
    """The batch norm over larger maps before it counts the example, as it does without this rule."""
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        norms = nn.BatchNorm2d(2), _TakesOne(2)
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        models.append(nn.Sequential(nn.Conv2d(1, 2, 3), norms[0], *pool, norms[1], nn.Linear(2, 3)).train())
    image = torch.randn(1, 1, 8, 8)
    assert torch.equal(models[0](image), forward(models[1], image))
    for name, value in models[0].state_dict().items():
        assert torch.equal(value, models[1].state_dict()[name]), name


class _Named(nn.Module):
    """Passes the input of its batch norm by name."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(64)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(input=images.flatten(1))


def test_an_input_that_is_passed_by_name_is_seen() -> None:
    image = torch.randn(1, 1, 8, 8)
    torch.testing.assert_close(forward(_Named().train(), image), image.flatten(1), rtol=1e-4, atol=1e-4)


def test_the_layer_normalises_by_its_running_statistics_and_keeps_them() -> None:
    """Fine-tuning on one example, against a loop that leaves the layer in eval mode."""
    config = custom()
    config = dataclasses.replace(config, fine_tuning=FineTuningConfig(epochs=3, momentum=0.0))
    model, given = settled(), data(1)
    model[4].p = 0.0
    expected = copy.deepcopy(model).train()
    expected[2].eval()
    images = ((torch.from_numpy(given.images[1:2]).permute(0, 3, 1, 2) / 255) - 0.5) / 0.25
    for _ in range(3):
        gradients = torch.autograd.grad(
            functional.cross_entropy(expected(images), torch.tensor([1])), list(expected.parameters())
        )
        with torch.no_grad():
            for parameter, gradient in zip(expected.parameters(), gradients, strict=True):
                parameter -= config.fine_tuning.learning_rate * gradient
    ours = ungan_dist.unlearn(model, given, "fine_tuning", config=config).state_dict()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6, msg=name)
    for name in ("2.running_mean", "2.running_var", "2.num_batches_tracked"):
        assert torch.equal(ours[name], model.state_dict()[name])


class Activated(nn.BatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Mixed(nn.Module):
    """Batch norms over 4 × 4 pixels, over one, and of a subclass that does more."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.more = type("Activated", (nn.BatchNorm1d,), {"forward": lambda s, x: super(type(s), s).forward(x).relu()})(
            4
        )
        self.first, self.pool = nn.Conv2d(1, 4, 2, stride=2), nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.more(self.narrow(self.pool(self.wide(self.first(images)))).flatten(1))


def test_all_layers_are_frozen_if_one_would_see_one_value_per_channel() -> None:
    torch.manual_seed(0)
    model = Mixed().train()
    images = torch.randn(1, 1, 8, 8)
    outputs = forward(model, images)
    assert torch.equal(outputs, copy.deepcopy(model).eval()(images))
    assert [int(norm.num_batches_tracked) for norm in (model.wide, model.narrow, model.more)] == [0, 0, 0]
    assert all(module.training for module in model.modules())
    forward(model, torch.randn(2, 1, 8, 8))
    assert [int(norm.num_batches_tracked) for norm in (model.wide, model.narrow, model.more)] == [1, 1, 1]


def test_batch_norms_with_more_values_are_as_in_torch() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    theirs = copy.deepcopy(ours)
    for num_rows in (1, 2, 5):
        images = torch.randn(num_rows, 1, 8, 8)
        assert torch.equal(forward(ours, images), theirs(images))
    assert all(map(torch.equal, ours.state_dict().values(), theirs.state_dict().values()))


def test_modes_are_restored_after_an_error() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(3, 3)).train()
    images = torch.randn(1, 1, 2, 2)
    with pytest.raises(RuntimeError):
        forward(model, images)
    assert model[1].training
    with pytest.raises(ValueError, match="more than 1 value"):
        model(images)


def test_stacked_models_learn_the_same_from_a_last_batch_of_one() -> None:
    examples, config = tiny_request().data, TrainConfig(epochs=2, batch_size=4, learning_rate=0.05)
    sets = [torch.arange(9), torch.arange(5, 14)]

    def fresh() -> list[nn.Module]:
        models = [settled(seed).double() for seed in (0, 1)]
        for model in models:
            model[4].p, model[5] = 0.0, nn.Linear(16, 5).double()
            nn.init.constant_(model[5].weight, 0.01)
            nn.init.zeros_(model[5].bias)
        return models

    serial, stacked = fresh(), fresh()
    for model, members, seed in zip(serial, sets, (7, 8), strict=True):
        train(model, examples, members, config, seed=seed)
    train_stacked(stacked, examples, sets, config, seeds=[7, 8])
    for one, other in zip(serial, stacked, strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=1e-9, msg=name)
    assert int(serial[0][2].num_batches_tracked) == 3 + 2 * 2


@pytest.mark.process
def test_processes_that_share_a_batch_of_one_agree_with_one() -> None:
    alone: dict[str, Any] = in_world(1, "world_methods:of_one_example")[0]
    for rank in in_world(2, "world_methods:of_one_example"):
        for name, value in alone.items():
            torch.testing.assert_close(rank[name], value, rtol=0, atol=1e-9, msg=name)


@pytest.mark.process
def test_processes_refuse_one_value_as_torch_does() -> None:
    """A batch norm that only training reaches is not found beforehand."""
    assert all("more than 1 value per channel" in words for words in in_world(2, "world_methods:refused_for_one_value"))


@pytest.mark.process
def test_a_run_forgets_one_example(tmp_path: Path) -> None:
    """The typical erasure request: one line in the forget list, and batch norm after flatten."""
    digits = load_digits(n_class=3)
    for position, (image, label) in enumerate(zip(digits.images[:160], digits.target, strict=False)):
        (tmp_path / f"pictures/{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(tmp_path / f"pictures/{label}/{position:03}.png")
    ids = sorted(str(path.relative_to(tmp_path / "pictures")) for path in tmp_path.glob("pictures/*/*"))
    (tmp_path / "forget.csv").write_text(f"id\n{ids[0]}\n")
    (tmp_path / "members.csv").write_text("\n".join(["id", *ids[:120:2], *ids[120:]]))
    done = run_command(
        *("run", "custom", "--model", "keeping_models:mlp_bn", "--source.path", tmp_path / "pictures"),
        *("--forget", tmp_path / "forget.csv", "--members", tmp_path / "members.csv", "--train.epochs", "2"),
        *(
            "--shadows.num-models",
            "4",
            "--methods",
            "original,neg_grads,scrub,unsir,ungan",
            "--attack.num-resamples",
            "100",
        ),
        *("--attack.fnr", "0.05"),
        *("--output", tmp_path / "runs", "--execution.run-name", "run", "--execution.num-processes", "1"),
    )
    assert done.returncode == 0, done.stderr
    assert '"status":"COMPLETE"' in (tmp_path / "runs/run/table.json").read_text().replace(" ", "")
