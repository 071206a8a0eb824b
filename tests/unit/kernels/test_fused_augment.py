"""The augmented batch: fused, reference and the loader's definition give the same bits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import Examples, gather, make_normalisation_table
from ungan_dist.kernels import gather_augmented
from ungan_dist.kernels.self_check.guards import guarded_buffers

TABLE = make_normalisation_table((0.5, 0.4, 0.3), (0.2, 0.3, 0.1))


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


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4)),
    padding=st.integers(0, 14),
    flip=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 2**32 - 1),
)
@settings(max_examples=15, derandomize=True, phases=[Phase.explicit, Phase.generate])
def test_any_shape_and_seed(shape, padding, flip, seed, epoch):
    if torch.cuda.is_available():
        pytest.skip("the parametrised cases run on CUDA")
    images = torch.arange(5 * shape[0] * shape[1] * shape[2], dtype=torch.int64).to(torch.uint8).view(5, *shape)
    table = make_normalisation_table((0.5,) * shape[2], (0.2,) * shape[2])
    options = {"seed": seed, "epoch": epoch, "padding": padding, "flip": flip}
    indices = torch.tensor([4, 0, 4, 2])
    fused, defined = (gather_augmented(images, indices, table, impl=i, **options) for i in ("fused", "reference"))
    assert torch.equal(fused, defined)


def test_strided_operands(fused_device):
    images, indices = pictures()
    wide, repeated = images.repeat_interleave(2, dim=2).to(fused_device), indices.repeat_interleave(3).to(fused_device)
    options = {"seed": 3, "epoch": 2, "padding": 4, "flip": True, "impl": "fused"}
    strided = gather_augmented(wide[:, :, ::2], repeated[::3], TABLE.to(fused_device), **options)
    assert torch.equal(
        strided, gather_augmented(images.to(fused_device), indices.to(fused_device), TABLE.to(fused_device), **options)
    )


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
        ({"indices": torch.zeros(0, dtype=torch.int64)}, "at least one"),
    ],
)
def test_refusals(change, message):
    images, indices = pictures()
    with pytest.raises(ValueError, match=message):
        gather_augmented(images, **({"indices": indices, "table": TABLE, "seed": 0, "epoch": 0} | change))
