"""FFCV's loader gives the bits of the resident one: every view, size, order and kind of picture."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batch_order import iterate_batches
from PIL import Image

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import (
    Examples,
    draw,
    gather,
    gather_batches,
    make_normalisation_table,
)
from ungan_dist.data.ffcv.format import MODE_JPEG, read_tables
from ungan_dist.data.ffcv.write import encode_beton_parts
from ungan_dist.data.rows import ImageTransform
from ungan_dist.training.world import World

# imported by the tests themselves: pytest imports this file also where none of them is selected
if not find_spec("ffcv"):
    pytest.skip("FFCV is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[4]
NUM_EXAMPLES = 50
MOMENTS = {1: ((0.3,), (0.4,)), 3: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))}
CROP_AND_FLIP = AugmentConfig(padding=3, flip=True)


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def both(folder: Path, kind: str) -> tuple[Examples, Examples]:
    """Return the same data for FFCV and resident, with one thread because more compile longer."""
    from ungan_dist.data.ffcv.images import FfcvImages

    channels = 1 if kind == "grey" else 3
    images = np.random.default_rng(0).integers(0, 256, (NUM_EXAMPLES, 9, 12, channels), dtype=np.uint8)
    jpegs: list[bytes | None] = []
    if kind == "jpeg":
        jpegs = [jpeg(image) if example % 3 else None for example, image in enumerate(images)]
        for image, file in zip(images, jpegs, strict=True):
            if file is not None:
                image[:] = np.asarray(Image.open(io.BytesIO(file)))
    labels = np.arange(NUM_EXAMPLES) % 4
    path = folder / "data.beton"
    path.write_bytes(b"".join(encode_beton_parts(images, labels, jpegs)))
    beton = read_tables(path)
    in_file = FfcvImages(path, beton, *MOMENTS[channels], device=torch.device("cpu"))
    common = {
        "labels": torch.from_numpy(labels),
        "table": make_normalisation_table(*MOMENTS[channels]),
        "num_classes": 4,
    }
    return Examples(images=in_file, **common), Examples(images=torch.from_numpy(images), **common)


@pytest.fixture(scope="module", params=["colour", "grey", "jpeg"])
def loaders(request, tmp_path_factory) -> tuple[Examples, Examples]:
    return both(tmp_path_factory.mktemp(request.param), request.param)


def batches_of(data: Examples, parts: Iterable[torch.Tensor], **view: Any) -> Iterator[torch.Tensor]:
    return gather_batches(data, [draw(data, part.numpy(), ImageTransform(**view)) for part in parts])


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Return whether bits, strides and alignment are equal; a convolution's last bits may depend on the latter."""
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    assert ours.stride() == theirs.stride() or not len(ours)
    assert ours.data_ptr() % 64 == theirs.data_ptr() % 64 == 0
    return ours.numpy().tobytes() == theirs.numpy().tobytes()


def test_every_view_has_the_same_bits(loaders) -> None:
    in_file, resident = loaders
    indices = torch.tensor([7, 0, 49, 7, 3, 3, 20])
    augmentations = [None, *(AugmentConfig(padding=p, flip=f) for p, f in itertools.product([0, 1, 5], [False, True]))]
    for augment, shift, flip in itertools.product(augmentations, [0, 1, 2], [False, True]):
        options = {"augment": augment, "seed": 2**63 - 12345, "epoch": 17, "shift": shift, "flip": flip}
        assert same(gather(in_file, indices, **options), gather(resident, indices, **options)), options


def test_every_draw_has_the_same_bits(loaders) -> None:
    in_file, resident = loaders
    indices = torch.arange(NUM_EXAMPLES)
    drawn = set()
    for seed, epoch in itertools.product([0, 1, 2**32, 2**62 + 5], [0, 1, 999]):
        options = {"augment": CROP_AND_FLIP, "seed": seed, "epoch": epoch}
        pictures = gather(in_file, indices, **options)
        assert same(pictures, gather(resident, indices, **options)), options
        drawn.add(pictures.numpy().tobytes())
    assert len(drawn) == 12


def test_passes_of_any_set_use_one_compiled_loader(loaders) -> None:
    """Sets, seeds and batch sizes change without a new compilation of the loader."""
    in_file, resident = loaders
    gather(in_file, torch.tensor([0]))
    compiled = in_file.images._loader._loader.code[0][0][0].__globals__
    before = {name: len(code.signatures) for name, code in compiled.items() if hasattr(code, "signatures")}
    assert before
    for seed, (size, batch_size) in enumerate([(50, 8), (33, 32), (9, 4), (2, 64), (50, 50)]):
        members = torch.randperm(NUM_EXAMPLES, generator=torch.Generator().manual_seed(seed))[:size]
        parts = list(iterate_batches(members, batch_size, seed=seed, epoch=seed))
        options = {"augment": CROP_AND_FLIP, "seed": seed, "epoch": seed}
        seen = 0
        for part, pictures in zip(parts, batches_of(in_file, parts, **options), strict=True):
            assert same(pictures, gather(resident, part, **options))
            seen += len(part)
        assert seen == size
    assert before == {name: len(code.signatures) for name, code in compiled.items() if hasattr(code, "signatures")}


def test_passes_may_overlap_and_end_early(loaders) -> None:
    in_file, resident = loaders
    parts = list(torch.arange(NUM_EXAMPLES).split(6))
    views = [{"augment": CROP_AND_FLIP, "seed": seed, "epoch": 2} for seed in (1, 2)]
    first, second = (batches_of(in_file, parts, **view) for view in views)
    for part in parts[:5]:
        assert same(next(first), gather(resident, part, **views[0]))
        assert same(next(second), gather(resident, part, **views[1]))
        assert same(gather(in_file, part, shift=1), gather(resident, part, shift=1))
    first.close()
    for part in parts[5:]:
        assert same(next(second), gather(resident, part, **views[1]))


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if type(thread).__name__ == "EpochIterator"]


def test_a_pass_ended_at_any_batch_leaves_no_thread(loaders) -> None:
    in_file, resident = loaders
    parts = list(torch.arange(NUM_EXAMPLES).split(5))
    for kept in range(len(parts) + 1):
        pictures = batches_of(in_file, parts)
        for part in parts[:kept]:
            assert same(next(pictures), gather(resident, part))
        pictures.close()
        assert not reading_threads(), kept


def test_passes_reuse_buffers_and_single_batches_own_theirs(loaders) -> None:
    in_file, resident = loaders
    parts = list(torch.arange(NUM_EXAMPLES).split(5))
    first, second = ({images.data_ptr() for images in batches_of(in_file, parts)} for _ in range(2))
    assert first == second
    one, other = gather(in_file, parts[0]), gather(in_file, parts[1])
    for _ in batches_of(in_file, parts):
        pass
    assert same(one, gather(resident, parts[0]))
    assert same(other, gather(resident, parts[1]))


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 2**64}, {"epoch": -1}, {"epoch": 2**32}])
def test_seeds_and_epochs_out_of_range_are_refused_by_either_loader(loaders, options: dict[str, int]) -> None:
    (name,) = options
    messages = []
    for data in loaders:
        with pytest.raises(ValueError, match=f"{name} must lie in") as raised:
            gather(data, torch.tensor([0]), augment=CROP_AND_FLIP, **options)
        messages.append(str(raised.value))
        assert len(gather(data, torch.tensor([0]), **options)) == 1  # nothing is drawn
    assert messages[0] == messages[1]


def test_empty_batches_are_empty(loaders) -> None:
    in_file, resident = loaders
    none, some = torch.arange(0), torch.arange(3)
    assert same(gather(in_file, none), gather(resident, none))
    for parts in ([none, none], [none, some, none, some]):
        for part, pictures in zip(parts, batches_of(in_file, parts), strict=True):
            assert same(pictures, gather(resident, part))


def test_double_precision_is_the_table_widened(loaders) -> None:
    in_file, resident = (
        Examples(images=data.images, labels=data.labels, table=data.table.double(), num_classes=4) for data in loaders
    )
    indices = torch.tensor([4, 2])
    assert same(gather(in_file, indices, augment=CROP_AND_FLIP), gather(resident, indices, augment=CROP_AND_FLIP))


@pytest.mark.parametrize("indices", [[NUM_EXAMPLES], [0, -1], [2**40]])
def test_indices_outside_of_the_data_are_refused(loaders, indices: list[int]) -> None:
    in_file, _ = loaders
    with pytest.raises(IndexError, match=str(indices[-1])):
        gather(in_file, torch.tensor(indices))


def test_torch_keeps_its_threads(loaders) -> None:
    """FFCV sets torch's number of threads at every pass, in two threads."""
    in_file, _ = loaders
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # the loaders' own number is 1
        for _ in range(20):
            gather(in_file, torch.tensor([1]))
            assert torch.get_num_threads() == 2
        for _ in batches_of(in_file, torch.arange(NUM_EXAMPLES).split(5)):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.process
def test_importing_ffcv_keeps_torchs_threads_and_compiles_nothing() -> None:
    code = """
        import torch
        from numba.core import event
        import numba.typed
        torch.set_num_threads(2)
        ours = numba.typed.Dict
        from ungan_dist.data.ffcv.availability import import_ffcv
        with event.install_recorder("numba:compile") as compiled:
            import_ffcv()
            import ffcv.loader
        print(torch.get_num_threads(), len(compiled.buffer), numba.typed.Dict is ours)
    """
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert result.stdout.split() == ["2", "0", "True"], result.stdout + result.stderr


def test_a_picture_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    in_file, _ = both(tmp_path, "jpeg")
    gather(in_file, torch.tensor([1]))
    path = tmp_path / "data.beton"
    content = bytearray(path.read_bytes())
    beton = read_tables(path)
    assert beton.is_jpeg[1]
    assert MODE_JPEG == 0
    begin = int(beton.pointers[1])
    content[begin : begin + int(beton.sizes[1])] = bytes(int(beton.sizes[1]))
    with path.open("r+b") as file:  # in place: the loader has the file mapped
        file.write(content)
    assert gather(in_file, torch.tensor([0])).isfinite().all()
    with pytest.raises(ValueError, match=r"example 1 .* cannot be decoded"):
        gather(in_file, torch.tensor([0, 1]))
    assert gather(in_file, torch.tensor([2])).isfinite().all()


@pytest.mark.parametrize("size", [(100, 30), (16, 16), (512, 512), (257, 256)])
def test_a_jpeg_of_another_size_is_refused_not_scaled(size: tuple[int, int]) -> None:
    from ungan_dist.data.ffcv.operation import decode_jpeg

    height, width = size
    other = jpeg(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))
    pixels = np.full((256, 256, 3), 77, np.uint8)
    assert decode_jpeg(np.frombuffer(other, np.uint8), pixels) != 0
    assert (pixels == 77).all()
    own = np.empty((height, width, 3), np.uint8)
    assert decode_jpeg(np.frombuffer(other, np.uint8), own) == 0
    assert (own == np.asarray(Image.open(io.BytesIO(other)))).all()


def test_more_threads_give_the_same_bits(tmp_path: Path) -> None:
    from ungan_dist.data.ffcv.images import FfcvImages

    in_file, resident = both(tmp_path, "colour")
    path = tmp_path / "data.beton"
    beton = read_tables(path)
    images = FfcvImages(path, beton, *MOMENTS[3], device=torch.device("cpu"), num_threads=2)
    threaded = Examples(images=images, labels=resident.labels, table=resident.table, num_classes=4)
    indices = torch.arange(NUM_EXAMPLES)
    options = {"augment": CROP_AND_FLIP, "seed": 5, "epoch": 6}
    assert same(gather(threaded, indices, **options), gather(in_file, indices, **options))


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_of_one_pixel_have_the_resident_strides(tmp_path: Path, channels: int) -> None:
    from ungan_dist.data.ffcv.images import FfcvImages

    images = np.arange(4 * channels, dtype=np.uint8).reshape(4, 1, 1, channels)
    path = tmp_path / "data.beton"
    path.write_bytes(b"".join(encode_beton_parts(images, np.arange(4))))
    in_file = FfcvImages(path, read_tables(path), *MOMENTS[channels], device=torch.device("cpu"))
    common = {"labels": torch.arange(4), "table": make_normalisation_table(*MOMENTS[channels]), "num_classes": 4}
    for indices in (torch.tensor([2]), torch.tensor([3, 0, 1])):
        ours = gather(Examples(images=in_file, **common), indices)
        assert same(ours, gather(Examples(images=torch.from_numpy(images), **common), indices))


@pytest.mark.process
def test_two_threads_with_the_workqueue_layer_of_numba(tmp_path: Path) -> None:
    """The workqueue layer ends the process if two passes run concurrently."""
    both(tmp_path, "colour")
    code = f"""
        from pathlib import Path
        import numba, torch
        from ungan_dist.data.rows import ImageTransform
        from ungan_dist.data.ffcv.format import read_tables
        from ungan_dist.data.ffcv.images import FfcvImages
        path = Path({str(tmp_path / "data.beton")!r})
        pictures = FfcvImages(
            path, read_tables(path), *{MOMENTS[3]!r}, device=torch.device("cpu"), num_threads=2
        )
        assert numba.threading_layer() == "workqueue"
        batches = [batch.numpy() for batch in torch.arange({NUM_EXAMPLES}).repeat(40).split(10)]
        passes = [pictures.read(batches, ImageTransform()) for _ in range(3)]
        for first, second, third in zip(*passes, strict=True):
            assert torch.equal(first, second) and torch.equal(second, third)
        print("done")
    """
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NUMBA_THREADING_LAYER": "workqueue", "NUMBA_NUM_THREADS": "2"},
    )
    assert (result.returncode, result.stdout.strip()) == (0, "done"), result.stderr


@pytest.mark.parametrize("size", [1, 2, 3])
def test_processes_read_shares_that_cover_the_set_once(loaders, size: int) -> None:
    """49 examples in batches of 4: the last has one row, and with three processes shares are uneven and empty."""
    in_file, resident = loaders
    parts = list(torch.arange(49).split(4))
    options = {"augment": CROP_AND_FLIP, "seed": 1, "epoch": 1}
    read: list[int] = []
    empty = 0
    for rank in range(size):
        shares = [World(rank=rank, size=size).share(part) for part in parts]
        for share, pictures in zip(shares, batches_of(in_file, shares, **options), strict=True):
            assert same(pictures, gather(resident, share, **options)) or not len(share)
            read += share.tolist()
            empty += not len(share)
    assert sorted(read) == list(range(49))
    assert (empty > 0) == (size > 1)


def test_a_transform_of_the_users_own_gives_the_same_bits(loaders: tuple[Examples, Examples]) -> None:
    augment = AugmentConfig(padding=3, flip=True, factory="user_transforms:rand_augment")
    parts = [torch.arange(20), torch.arange(20, 29)]
    found = [list(batches_of(data, parts, augment=augment, seed=4, epoch=1)) for data in loaders]
    for ours, theirs in zip(*found, strict=True):
        assert same(ours, theirs)
    assert same(*(gather(data, parts[1], augment=augment, seed=4, epoch=1) for data in loaders))
    plain = next(iter(batches_of(loaders[1], parts, augment=CROP_AND_FLIP, seed=4, epoch=1)))
    assert not torch.equal(found[1][0], plain)
