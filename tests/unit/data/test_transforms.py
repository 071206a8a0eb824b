"""A transform of the user's own changes each example by its seed, its epoch and its number alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS
from torch import Tensor
from world_training import make

from ungan_dist.config.recipes import digits
from ungan_dist.config.training import AugmentConfig, TrainConfig
from ungan_dist.data.examples import Examples, gather, make_normalisation_table
from ungan_dist.data.transforms import find_pixels
from ungan_dist.training.engines.slot import Slot
from ungan_dist.training.train import train

NOISE = AugmentConfig(factory="user_transforms:noise")


def examples(dtype: torch.dtype = torch.float32, channels: int = 3) -> Examples:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, channels), dtype=np.uint8)
    return Examples(
        images=torch.from_numpy(images),
        labels=torch.arange(40) % 5,
        table=make_normalisation_table((0.0,) * channels, (1.0,) * channels, dtype),
        num_classes=5,
    )


def pixels_of(data: Examples, indices: Tensor, augment: AugmentConfig, *, seed: int = 5, epoch: int = 2) -> Tensor:
    return (gather(data, indices, augment=augment, seed=seed, epoch=epoch) * 255).round().to(torch.uint8)


def test_torchvisions_transform_is_applied_to_pixels_after_crop_and_flip() -> None:
    from torchvision.transforms import v2  # 3 s, also where this file is only collected

    data, some = examples(), torch.tensor([7, 3, 30, 3])
    crop = AugmentConfig(padding=2, flip=True)
    state = torch.get_rng_state()
    both = pixels_of(data, some, dataclasses.replace(crop, factory="user_transforms:solarise"))
    assert torch.equal(both, v2.functional.solarize(pixels_of(data, some, crop), 100))
    ours = pixels_of(data, some, dataclasses.replace(crop, factory="user_transforms:rand_augment"))
    assert torch.equal(ours[1], ours[3])
    assert not torch.equal(ours, pixels_of(data, some, crop))
    assert torch.equal(torch.get_rng_state(), state)


def test_draws_differ_by_example_epoch_and_seed_and_by_nothing_else() -> None:
    data, some = examples(), torch.arange(20)
    ours = pixels_of(data, some, NOISE)
    plain = pixels_of(data, some, AugmentConfig())
    is_changed = (ours != plain).flatten(1).any(1)
    assert 3 < int(is_changed.sum()) < 17
    alone = torch.cat([pixels_of(data, one, NOISE) for one in some.split(1)])
    assert torch.equal(alone, ours)
    for other in ({"epoch": 3}, {"seed": 6}):
        assert not torch.equal(pixels_of(data, some, NOISE, **other), ours)
    differences = (ours.int() - plain.clamp(max=240).int())[is_changed]
    assert len({tuple(one.flatten().tolist()) for one in differences}) == len(differences)


@pytest.mark.parametrize("moments", [((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)), ((0.5,) * 3, (1e-3,) * 3)])
def test_pixels_are_found_again_from_their_normalised_values(moments: tuple[tuple[float, ...], ...]) -> None:
    table = make_normalisation_table(*moments)
    pixels = torch.arange(256, dtype=torch.uint8).view(2, 8, 16, 1).repeat(1, 1, 1, 3)
    pixels[..., 1] = pixels[..., 1].flip(0)
    images = torch.stack([table[pixels[..., channel].long(), channel] for channel in range(3)], dim=1)
    assert torch.equal(find_pixels(images, table), pixels)


def test_captured_steps_train_on_the_same_transformed_images() -> None:
    data, members = examples(torch.float64, 1), torch.arange(26)
    config = TrainConfig(epochs=3, batch_size=10, augment=NOISE)
    captured, alone, plain = make(0), make(0), make(0)
    slot = Slot([make(1)], data, config, 26)
    assert slot.num_captured == 2
    slot.train([captured], [members], seeds=[0])
    train(alone, data, members, config, seed=0)
    train(plain, data, members, dataclasses.replace(config, augment=AugmentConfig()), seed=0)
    for ours, theirs, other in zip(captured.parameters(), alone.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
        assert not torch.allclose(ours, other, atol=1e-6, rtol=0)


def test_its_source_is_part_of_the_identity() -> None:
    config = digits(train={"augment": {"factory": "user_transforms:noise"}})
    assert config.train.augment.factory_source.startswith("user_transforms:noise=")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("by_random", ("gives two results for one seed, epoch and example", "not from random or numpy")),
        ("counting", ("gives two results for one seed, epoch and example", "keep no state")),
        ("to_float", ("must map uint8 (1, 8, 8)", "got torch.float32 (1, 8, 8)")),
        ("no_transform", ("must return a transform, got NoneType",)),
    ],
)
def test_one_that_cannot_be_repeated_or_used_is_refused(tmp_path: Path, factory: str, words: tuple[str, ...]) -> None:
    options = (*SMALL_OPTIONS, "--output", tmp_path, "--train.augment.factory", f"user_transforms:{factory}")
    assert_refused(run_command("run", "digits", *options), *words)
    assert not list(tmp_path.rglob("*.npy"))
