"""Pixels become the normalisation table's bits, by arithmetic where that is exact and by look-up elsewhere."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ungan_dist.data import normalisation_table

pytest.importorskip("ffcv", reason="FFCV is not installed")

from ungan_dist.ffcv_pixels import _compute, exact_lines, write_normalised

MOMENTS = {
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def expected(pixels: np.ndarray, table: np.ndarray, down: int, first: int, mirrored: bool) -> np.ndarray:
    """A picture's output, value by value."""
    height, width, channels = pixels.shape
    out = np.empty((channels, height, width), np.float32)
    for channel, y, x in np.ndindex(out.shape):
        row, column = y + down, first - x if mirrored else first + x
        inside = 0 <= row < height and 0 <= column < width
        out[channel, y, x] = table[channel, pixels[row, column, channel] if inside else 0]
    return out


@pytest.mark.parametrize("name", MOMENTS)
def test_arithmetic_has_the_tables_bits(name: str) -> None:
    mean, std = MOMENTS[name]
    table = np.ascontiguousarray(normalisation_table(mean, std).numpy().T)
    lines = exact_lines(mean, std, table)
    if name in ("CIFAR-10", "ImageNet"):
        assert (lines[:, 0] != 0).all()
    planes, out = np.arange(256, dtype=np.uint8)[None], np.empty(256, np.float32)
    for line, column in zip(lines, table, strict=True):
        if line[0]:
            _compute(planes, np.uint64(0), out, np.uint64(0), 256, line)
            assert out.tobytes() == column.tobytes()


def test_a_line_that_misses_a_bit_is_not_taken() -> None:
    mean, std = MOMENTS["CIFAR-10"]
    table = np.ascontiguousarray(normalisation_table(mean, std).numpy().T)
    table[1, 77] = np.nextafter(table[1, 77], np.float32(9))
    assert (exact_lines(mean, std, table)[:, 0] != 0).tolist() == [True, False, True]


@pytest.mark.parametrize("seed", range(20))
def test_random_moments_are_exact_or_looked_up(seed: int) -> None:
    """Whatever is chosen, the compiled code's bits are the table's."""
    generator = np.random.default_rng(seed)
    mean, std = (tuple(generator.uniform(low, high, 8).tolist()) for low, high in ((0, 1), (1e-3, 2)))
    table = np.ascontiguousarray(normalisation_table(mean, std).numpy().T)
    planes, out = np.arange(256, dtype=np.uint8)[None], np.empty(256, np.float32)
    for line, column in zip(exact_lines(mean, std, table), table, strict=True):
        if line[0]:
            _compute(planes, np.uint64(0), out, np.uint64(0), 256, line)
            assert out.tobytes() == column.tobytes()


@pytest.mark.parametrize("looked_up", [False, True])
@pytest.mark.parametrize("shape", [(32, 32, 3), (5, 7, 3), (8, 8, 1), (1, 1, 3), (33, 2, 4), (3, 40, 2)])
def test_every_move_is_the_definition(shape: tuple[int, int, int], looked_up: bool) -> None:
    height, width, channels = shape
    generator = np.random.default_rng(0)
    mean, std = (tuple(generator.uniform(*ends, channels).tolist()) for ends in ((0.3, 0.6), (0.1, 0.4)))
    table = np.ascontiguousarray(normalisation_table(mean, std).numpy().T)
    lines = np.zeros((channels, 4), np.float32) if looked_up else exact_lines(mean, std, table)
    pixels = generator.integers(0, 256, shape, dtype=np.uint8)
    out = np.empty((channels, height, width), np.float32)
    live = np.array(shape)
    downs, columns = {-height - 1, -height, -2, 0, 1, height - 1, height}, {-width, -2, 0, 3, width - 1, width, 50}
    for down, moved, mirrored in itertools.product(sorted(downs), sorted(columns), [False, True]):
        first = moved + (width - 1) * mirrored
        out[:] = np.nan
        write_normalised(pixels, live, table, lines, out, down, first, mirrored)
        assert out.tobytes() == expected(pixels, table, down, first, mirrored).tobytes(), (down, first, mirrored)


def test_a_caller_with_fastmath_does_not_regroup_sums() -> None:
    """FFCV compiles its callers so; numba hands the flag to every function that does not refuse it."""
    from numba import njit

    @njit(fastmath=True)
    def caller(pixels, shape, table, lines, out):
        write_normalised(pixels, shape, table, lines, out, 0, 0, False)

    mean, std = MOMENTS["CIFAR-10"]
    table = np.ascontiguousarray(normalisation_table(mean, std).numpy().T)
    lines = exact_lines(mean, std, table)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    out = np.empty((3, 32, 32), np.float32)
    caller(pixels, np.array(pixels.shape), table, lines, out)
    assert out.tobytes() == expected(pixels, table, 0, 0, False).tobytes()
    (code,) = caller.inspect_llvm().values()
    sums = [line for line in code.splitlines() if " fadd " in line or " fmul " in line]
    assert sums
    assert not [line for line in sums if "fast" in line or "reassoc" in line]
