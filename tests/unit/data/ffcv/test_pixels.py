"""Pixels are normalised to the table's bits, by arithmetic if that is exact and by look-up otherwise."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from ffcv_pixels import MOMENTS, SHAPES
from process_groups import in_world

from ungan_dist.data.examples import make_normalisation_table

# importing it compiles for 7 s, also where no test of this file is selected
if not find_spec("ffcv"):
    pytest.skip("FFCV is not installed", allow_module_level=True)

from ungan_dist.data.ffcv.pixels import compute_row, exact_lines


@pytest.mark.parametrize("name", MOMENTS)
def test_arithmetic_has_the_tables_bits(name: str) -> None:
    mean, std = MOMENTS[name]
    table = np.ascontiguousarray(make_normalisation_table(mean, std).numpy().T)
    lines = exact_lines(mean, std, table)
    if name in ("CIFAR-10", "ImageNet"):
        assert (lines[:, 0] != 0).all()
    planes, out = np.arange(256, dtype=np.uint8)[None], np.empty(256, np.float32)
    for line, column in zip(lines, table, strict=True):
        if line[0]:
            compute_row(planes.ctypes.data, out.ctypes.data, 256, 0, 256, False, *line)
            assert out.tobytes() == column.tobytes()


def test_a_line_that_misses_a_bit_is_not_used() -> None:
    mean, std = MOMENTS["CIFAR-10"]
    table = np.ascontiguousarray(make_normalisation_table(mean, std).numpy().T)
    table[1, 77] = np.nextafter(table[1, 77], np.float32(9))
    assert (exact_lines(mean, std, table)[:, 0] != 0).tolist() == [True, False, True]


@pytest.mark.parametrize("seed", range(20))
def test_random_moments_are_exact_or_looked_up(seed: int) -> None:
    """The compiled code's bits equal the table's with either choice."""
    generator = np.random.default_rng(seed)
    mean, std = (tuple(generator.uniform(low, high, 8).tolist()) for low, high in ((0, 1), (1e-3, 2)))
    table = np.ascontiguousarray(make_normalisation_table(mean, std).numpy().T)
    planes, out = np.arange(256, dtype=np.uint8)[None], np.empty(256, np.float32)
    for line, column in zip(exact_lines(mean, std, table), table, strict=True):
        if line[0]:
            compute_row(planes.ctypes.data, out.ctypes.data, 256, 0, 256, False, *line)
            assert out.tobytes() == column.tobytes()


@pytest.mark.parametrize("looked_up", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.process
def test_every_shift_and_flip_equals_the_definition(
    moved: dict[tuple[tuple[int, int, int], bool], list], shape, looked_up
) -> None:
    assert not moved[shape, looked_up]


@pytest.mark.process
def test_a_caller_with_fastmath_does_not_regroup_sums() -> None:
    """FFCV compiles its callers with fastmath, which numba passes to every function that does not refuse it."""
    same, sums = in_world(1, "ffcv_pixels:called_with_fastmath")[0]
    assert same
    assert sums
    assert not [line for line in sums if "fast" in line or "reassoc" in line]


@pytest.fixture(scope="module")
def moved() -> dict[tuple[tuple[int, int, int], bool], list]:
    """Run in its own process, because FFCV's loaders change how numba types flat byte arrays."""
    return in_world(1, "ffcv_pixels:wrong_moves")[0]
