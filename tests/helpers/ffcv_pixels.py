"""Compare pictures shifted by the compiled code with the definition, in a process without an FFCV loader."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ungan_dist.data.examples import make_normalisation_table

MOMENTS = {
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
SHAPES = [(32, 32, 3), (5, 7, 3), (8, 8, 1), (1, 1, 3), (33, 2, 4), (3, 40, 2), (2, 16, 1), (4, 17, 3), (1, 32_769, 1)]


def expected(pixels: np.ndarray, table: np.ndarray, down: int, first: int, mirrored: bool) -> np.ndarray:
    """Compute a picture's output value by value."""
    height, width, channels = pixels.shape
    out = np.empty((channels, height, width), np.float32)
    for channel, y, x in np.ndindex(out.shape):
        row, column = y + down, first - x if mirrored else first + x
        inside = 0 <= row < height and 0 <= column < width
        out[channel, y, x] = table[channel, pixels[row, column, channel] if inside else 0]
    return out


def wrong_moves(world: Any) -> dict[tuple[tuple[int, int, int], bool], list[tuple[int, int, bool]]]:
    """List the moves whose bits differ from the definition, by shape and by use of the look-up table."""
    from ungan_dist.data.ffcv.pixels import exact_lines, write_normalised

    wrong: dict[tuple[tuple[int, int, int], bool], list[tuple[int, int, bool]]] = {}
    for (height, width, channels), looked_up in itertools.product(SHAPES, [False, True]):
        generator = np.random.default_rng(0)
        mean, std = (tuple(generator.uniform(*ends, channels).tolist()) for ends in ((0.3, 0.6), (0.1, 0.4)))
        table = np.ascontiguousarray(make_normalisation_table(mean, std).numpy().T)
        lines = np.zeros((channels, 4), np.float32) if looked_up else exact_lines(mean, std, table)
        pixels = generator.integers(0, 256, (height, width, channels), dtype=np.uint8)
        out = np.empty((channels, height, width), np.float32)
        live = np.array(pixels.shape)
        downs = sorted({-height - 1, -height, -2, 0, 1, height - 1, height})
        columns = sorted({-width, -2, 0, 3, width - 1, width, 50})
        found = wrong[(height, width, channels), looked_up] = []
        for down, moved, mirrored in itertools.product(downs, columns, [False, True]):
            first = moved + (width - 1) * mirrored
            out[:] = np.nan
            write_normalised(pixels, live, table, lines, out, down, first, mirrored)
            if out.tobytes() != expected(pixels, table, down, first, mirrored).tobytes():
                found.append((down, first, mirrored))
    return wrong


def called_with_fastmath(world: Any) -> tuple[bool, list[str]]:
    """Return whether a caller compiled with fastmath gets the definition's bits, and the sums in its code."""
    from numba import njit

    from ungan_dist.data.ffcv.pixels import exact_lines, write_normalised

    @njit(fastmath=True)
    def caller(pixels, shape, table, lines, out):
        write_normalised(pixels, shape, table, lines, out, 0, 0, False)

    mean, std = MOMENTS["CIFAR-10"]
    table = np.ascontiguousarray(make_normalisation_table(mean, std).numpy().T)
    lines = exact_lines(mean, std, table)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    out = np.empty((3, 32, 32), np.float32)
    caller(pixels, np.array(pixels.shape), table, lines, out)
    (code,) = caller.inspect_llvm().values()
    sums = [line for line in code.splitlines() if " fadd " in line or " fmul " in line]
    return out.tobytes() == expected(pixels, table, 0, 0, False).tobytes(), sums
