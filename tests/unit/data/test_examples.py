"""Batches and augmentation against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from batch_order import cycle_batches, iterate_batches

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.crops import draw_augmentation
from ungan_dist.data.examples import (
    Examples,
    gather,
    make_normalisation_table,
)
from ungan_dist.data.seeds import derive_seed


@pytest.fixture
def data() -> Examples:
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.integers(0, 256, (20, 5, 6, 3), dtype=np.uint8))
    table = make_normalisation_table((0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
    return Examples(images=images, labels=torch.arange(20) % 4, table=table, num_classes=4)


def test_normalisation_is_float64_rounded_once() -> None:
    table = make_normalisation_table((0.4914,), (0.2023,))
    expected = [np.float32((value / 255 - 0.4914) / 0.2023) for value in range(256)]
    assert table[:, 0].tolist() == [float(value) for value in expected]


def test_plain_gather_is_the_normalised_picture(data: Examples) -> None:
    indices = torch.tensor([3, 3, 19])
    pictures = gather(data, indices)
    expected = (data.images[indices].double() / 255 - torch.tensor([0.1, 0.5, 0.9])) / torch.tensor([0.2, 0.3, 0.4])
    torch.testing.assert_close(pictures.double(), expected.permute(0, 3, 1, 2), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("padding", "flip"), list(itertools.product([0, 1, 3], [False, True])))
def test_augmentation_is_pad_crop_mirror(data: Examples, padding: int, flip: bool) -> None:
    config = AugmentConfig(padding=padding, flip=flip)
    indices = torch.tensor([5, 0, 19, 5])
    pictures = gather(data, indices, augment=config, seed=11, epoch=4)
    draws = draw_augmentation(11, 4, indices.numpy(), config)
    for picture, index, top, left, mirrored in zip(pictures, indices, *draws, strict=True):
        pixels = np.pad(data.images[index].numpy(), [(padding, padding), (padding, padding), (0, 0)])
        crop = pixels[top : top + 5, left : left + 6]
        crop = crop[:, ::-1] if mirrored else crop
        expected = data.table.numpy()[crop, np.arange(3)].transpose(2, 0, 1)
        assert (picture.numpy() == expected).all()
    assert (pictures[0] == pictures[3]).all()


def test_draws_cover_every_corner_evenly() -> None:
    top, left, mirrored = draw_augmentation(0, 0, np.arange(9000), AugmentConfig(padding=1, flip=True))
    counts = np.bincount(top * 3 + left, minlength=9)
    assert (abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    assert abs(mirrored.mean() - 0.5) < 0.03


@pytest.mark.parametrize("shift", [1, 2])
def test_a_shifted_view_moves_right_and_down(data: Examples, shift: int) -> None:
    pixels = data.images[4].numpy()
    moved = np.zeros_like(pixels)
    moved[shift:, shift:] = pixels[:-shift, :-shift]
    expected = data.table.numpy()[moved, np.arange(3)].transpose(2, 0, 1)
    assert (gather(data, torch.tensor([4]), shift=shift)[0].numpy() == expected).all()


def test_a_flipped_view_is_the_mirror_image(data: Examples) -> None:
    indices = torch.arange(20)
    assert (gather(data, indices, flip=True) == gather(data, indices).flip(-1)).all()


@pytest.mark.parametrize(
    ("size", "batch", "num_batches"), [(10, 3, 3), (9, 3, 3), (10, 20, 1), (7, 3, 2), (8, 3, 3), (1, 4, 1)]
)
def test_a_pass_covers_the_set_once(size: int, batch: int, num_batches: int) -> None:
    indices = torch.arange(100, 100 + size)
    seen = list(iterate_batches(indices, batch, seed=1, epoch=2))
    assert sorted(torch.cat(seen).tolist()) == indices.tolist()
    assert len(seen) == num_batches
    assert size == 1 or min(map(len, seen)) > 1  # batch norm cannot train on one example


def test_the_order_depends_on_seed_and_epoch() -> None:
    orders = {
        tuple(torch.cat(list(iterate_batches(torch.arange(50), 8, seed=seed, epoch=epoch))).tolist())
        for seed, epoch in itertools.product(range(3), range(3))
    }
    assert len(orders) == 9


def test_a_stream_repeats_passes_without_end() -> None:
    drawn = list(itertools.islice(cycle_batches(torch.arange(10), 4, seed=0), 10))
    flat = torch.cat([batch for _, batch in drawn])
    for start in range(0, 40, 10):
        assert sorted(flat[start : start + 10].tolist()) == list(range(10))
    assert all(len(batch) == 4 for _, batch in drawn)
    assert [epoch for epoch, _ in drawn] == sorted(epoch for epoch, _ in drawn)


def test_a_stream_of_a_set_smaller_than_its_batch() -> None:
    _, batch = next(cycle_batches(torch.arange(3), 7, seed=0))
    assert len(batch) == 7
    assert set(batch.tolist()) == {0, 1, 2}


def test_derived_seeds_differ_by_purpose_and_number() -> None:
    seeds = {derive_seed(purpose, number) for purpose in ("a", "b") for number in range(100)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
