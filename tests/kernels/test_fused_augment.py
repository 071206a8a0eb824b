"""The augmented batch: fused, reference and the loader's definition give the same bits."""

from __future__ import annotations

import pytest
import torch

from ungan_dist.config import AugmentConfig
from ungan_dist.data import Examples, gather, normalisation_table
from ungan_dist.kernels import gather_augmented
from ungan_dist.kernels.testing import guarded_buffers

TABLE = normalisation_table((0.5, 0.4, 0.3), (0.2, 0.3, 0.1))


def pictures(height=9, width=7):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (50, height, width, 3), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 50, (24,), generator=generator)


@pytest.mark.parametrize("impl", ["reference", "fused"])
@pytest.mark.parametrize(("padding", "flip"), [(0, False), (0, True), (4, True), (2, False)])
@pytest.mark.parametrize("seed", [0, 123456789012345678, 2**63 - 1])
def test_equals_the_loader(fused_device, impl, padding, flip, seed):
    images, indices = pictures()
    data = Examples(images=images, labels=torch.zeros(50, dtype=torch.int64), table=TABLE, num_classes=2)
    expected = gather(data, indices, augment=AugmentConfig(padding=padding, flip=flip), seed=seed, epoch=7)
    moved = (tensor.to(fused_device) for tensor in (images, indices, TABLE))
    with guarded_buffers():
        batch = gather_augmented(*moved, seed=seed, epoch=7, padding=padding, flip=flip, impl=impl)
    assert torch.equal(batch.cpu(), expected)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_pictures_larger_than_a_block(fused_device):
    images, indices = (tensor.to(fused_device) for tensor in pictures(height=21, width=23))
    options = {"seed": 3, "epoch": 2**32 - 1, "padding": 4, "flip": True}
    batches = [
        gather_augmented(images, indices[:4], TABLE.to(fused_device), impl=impl, **options)
        for impl in ("reference", "fused")
    ]
    assert torch.equal(*batches)


def test_half_is_the_table_rounded(fused_device):
    images, indices = (tensor.to(fused_device) for tensor in pictures())
    options = {"seed": 3, "epoch": 0, "padding": 4, "impl": "fused"}
    single = gather_augmented(images, indices, TABLE.to(fused_device), **options)
    half = gather_augmented(images, indices, TABLE.to(fused_device), dtype=torch.float16, **options)
    assert torch.equal(half, single.half())


def test_unknown_index_is_a_picture_of_nan(fused_device):
    images, indices = (tensor.to(fused_device) for tensor in pictures())
    indices[3], indices[5] = 50, -1
    batch = gather_augmented(images, indices, TABLE.to(fused_device), seed=0, epoch=0, impl="fused")
    assert batch[[3, 5]].isnan().all()
    assert batch[:3].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": -1}, "epoch"),
        ({"seed": 2**63}, "seed"),
        ({"dtype": torch.float64}, "dtype"),
        ({"padding": -1}, "padding"),
    ],
)
def test_refusals(change, message):
    images, indices = pictures()
    with pytest.raises(ValueError, match=message):
        gather_augmented(images, indices, TABLE, **({"seed": 0, "epoch": 0} | change))
