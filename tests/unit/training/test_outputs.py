"""Models of libraries by their names, and one rule for the logits among outputs."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from ungan_dist.config.recipes import digits
from ungan_dist.config.training import ModelConfig, TrainConfig
from ungan_dist.data.examples import Examples, make_normalisation_table
from ungan_dist.data.sources.source import load_source
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.evaluate import accuracy
from ungan_dist.training.models import build, trainable_copy
from ungan_dist.training.outputs import unwrap_logits
from ungan_dist.training.train import train


def made(factory: str | None, size: int, **options: Any) -> nn.Module:
    config = ModelConfig(factory=factory, **options)
    return build(config, channels=1, num_classes=10, seed=0, device=torch.device("cpu"), size=(size, size))


class Pair(NamedTuple):
    auxiliary: Tensor
    logits: Tensor


class Output(OrderedDict[str, Tensor]):
    """As the ModelOutput of transformers: a dict whose keys are attributes too."""

    def __getattr__(self, name: str) -> Tensor:
        return self[name]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda logits: {"loss": logits.sum(), "logits": logits},
        lambda logits: Output(hidden=logits * 0, logits=logits),
        lambda logits: Pair(logits * 0, logits),
        lambda logits: (logits, logits * 0),
        lambda logits: [logits],
    ],
)
def test_logits_are_those_of_that_name_or_the_first(wrap: Any) -> None:
    class Wrapped(nn.Linear):
        def forward(self, input: Tensor) -> Any:
            return wrap(super().forward(input))

    model, images = Wrapped(3, 2), torch.randn(4, 3)
    expected = nn.functional.linear(images, model.weight, model.bias)
    assert torch.equal(unwrap_logits(model)(images), expected)
    assert torch.equal(trainable_copy(model)(images), expected)  # its copies too


@pytest.mark.parametrize("outputs", [{"scores": 1}, (), 3, {"logits": 3}])
def test_other_outputs_stay_as_they_are(outputs: Any) -> None:
    class Other(nn.Identity):
        def forward(self, input: Tensor) -> Any:
            return outputs

    assert unwrap_logits(Other())(torch.zeros(1)) == outputs


def digits_data() -> Examples:
    source = load_source(digits().source)
    return Examples(
        images=torch.from_numpy(source.images),
        labels=torch.from_numpy(source.labels).long(),
        table=make_normalisation_table(tuple(source.mean), tuple(source.std)),
        num_classes=10,
    )


def test_stacked_models_with_named_logits_are_those_with_logits_alone() -> None:
    data, config = digits_data(), TrainConfig(epochs=1, batch_size=20)
    pair = [made("user_models:with_named_logits", 8) for _ in range(2)]
    alone = made("user_models:linear", 8)
    alone.load_state_dict({name.removeprefix("model."): value for name, value in pair[0].state_dict().items()})
    train_stacked(pair, data, [torch.arange(40)] * 2, config, seeds=[0, 1])
    train(alone, data, torch.arange(40), config, seed=0)
    for ours, theirs in zip(pair[0].parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5"])
def test_torchvisions_models_have_names(name: str) -> None:
    assert made(f"torchvision:{name}", 32).eval()(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_a_name_that_torchvision_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"torchvision:resnet19: .* has no function 'resnet19'"):
        made("torchvision:resnet19", 32)


def test_a_small_vit_learns_by_its_recipe() -> None:
    data, members, others = digits_data(), torch.arange(300), torch.arange(300, 600)
    model = made(None, 8, name="vit_small")
    recipe = TrainConfig(
        epochs=8, batch_size=50, optimizer="adamw", learning_rate=1e-3, weight_decay=0.05, schedule="one_cycle",
        label_smoothing=0.1, gradient_clipping=1.0,
    )  # fmt: skip
    losses = train(model, data, members, recipe, seed=0)
    assert losses[-1] < losses[0] / 1.5
    assert accuracy(model, data, others) > 0.6


def test_a_vit_needs_squares_of_whole_patches() -> None:
    with pytest.raises(ValueError, match="square images whose side is a multiple of 4 pixels, got 10 × 10"):
        made(None, 10, name="vit_small")
