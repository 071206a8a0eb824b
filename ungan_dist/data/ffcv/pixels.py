"""Convert an image's bytes [height, width, channels] to normalised float32 [channels, height, width].

The first step copies the channels into planes of bytes. The second step moves, mirrors and normalises each row of a
plane. Both compile to vector code, which a single step would not.

Normalisation is arithmetic if that gives the table's bits for all 256 values, which is checked first. Otherwise, and in
rows too short for a vector, it is a table look-up. FFCV compiles its callers with fastmath, which numba passes on and
which would regroup sums. Every function therefore has ``fastmath=False``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
from jaxtyping import Float32
from numba import njit

from ungan_dist.data.ffcv.lanes import LANES, WIDEST, normalise_lanes, normalise_lanes_mirrored

_EXACT_BITS = 24
"""Bits of a float32's significand."""


def exact_lines(
    mean: Sequence[float], std: Sequence[float], table: Float32[np.ndarray, "channels 256"]
) -> Float32[np.ndarray, "channels 4"]:
    """Compute slope and offset of each channel, coarse and rest. They are zero if the channel needs its table.

    The coarse slope and offset are multiples of one large power of two, so that ``value · slope + offset`` is exact in
    float32. The rest is small, and its sum with the coarse part is the only rounding that matters.
    """
    lines = np.zeros((len(table), 4), np.float32)
    for channel, (centre, spread) in enumerate(zip(mean, std, strict=True)):
        slope, offset = 1 / (255 * float(spread)), -float(centre) / float(spread)
        largest = max(abs(offset), abs(255 * slope + offset), 255 * abs(slope))
        if not 0 < largest < 1e30:
            continue
        unit = 2.0 ** (np.ceil(np.log2(largest)) + 1 - _EXACT_BITS)
        coarse = np.round(slope / unit) * unit, np.round(offset / unit) * unit
        line = np.array([*coarse, slope - coarse[0], offset - coarse[1]], np.float32)
        if line[0] and _matches_table(line, table[channel]):
            lines[channel] = line
    return lines


def _matches_table(line: Float32[np.ndarray, " 4"], column: Float32[np.ndarray, " 256"]) -> bool:
    """Return whether a line gives the table's bits for every value, with and without fused multiply-add."""
    values = np.arange(256, dtype=np.float32)
    wide, (slope, offset, slope_rest, offset_rest) = values.astype(np.float64), line.astype(np.float64)
    rounded = (values * line[0] + line[1]) + (values * line[2] + line[3])
    fused = (wide * slope + offset).astype(np.float32) + (wide * slope_rest + offset_rest).astype(np.float32)
    return rounded.tobytes() == fused.tobytes() == column.tobytes()


@njit(nogil=True, fastmath=False)
@no_type_check
def _separate_channels(flat, planes, before, size, num_channels):
    """Copy pixels into consecutive planes of ``size`` bytes, the first at ``before``.

    Indices are unsigned, so that numba does not check for negative ones.
    """
    one, three, many = np.uint64(1), np.uint64(3), np.uint64(num_channels)
    first, size = np.uint64(before), np.uint64(size)
    if num_channels == 3:
        second, third = first + size, first + size + size
        for x in range(size):
            planes[0, first + x] = flat[three * x]
            planes[0, second + x] = flat[three * x + one]
            planes[0, third + x] = flat[three * x + one + one]
        return
    for channel in range(many):
        for x in range(size):
            planes[0, first + channel * size + x] = flat[many * x + channel]


@njit(nogil=True, fastmath=False)
@no_type_check
def _look_up(planes, source, step, out, target, width, begin, end, column):
    """Normalise one row by a column of the table. Pixel x lies ``step`` · x after the first."""
    for x in range(width):
        out[target + x] = column[planes[0, source + step * x]] if begin <= x < end else column[0]


@njit(nogil=True, fastmath=False)
@no_type_check
def compute_row(source, target, width, begin, end, mirrored, slope, offset, slope_rest, offset_rest):
    """Normalise one row of ``LANES`` … ``WIDEST`` pixels by arithmetic.

    It calls ``normalise_lanes`` from the first pixel's address forwards or, if mirrored, backwards. The last lanes
    overlap those before them, and write the same values again.
    """
    x, last = 0, width - LANES
    while True:  # a range with a step would cost a division per row
        if mirrored:
            normalise_lanes_mirrored(
                source - x - (LANES - 1), target + 4 * x, x, begin, end, slope, offset, slope_rest, offset_rest
            )
        else:
            normalise_lanes(source + x, target + 4 * x, x, begin, end, slope, offset, slope_rest, offset_rest)
        if x == last:
            return
        x = min(x + LANES, last)


@njit(nogil=True, fastmath=False)
@no_type_check
def write_normalised(pixels, shape, table, lines, place, down, first, mirrored):
    """Write one normalised image into its place [c, h, w].

    Output (y, x) is read from row y + ``down``, column ``first`` + x, or ``first`` − x if mirrored. Pixels outside the
    image have the value 0. ``shape`` is an array, because the compiler would unroll loops over known lengths and then
    not generate vector code.
    """
    height, width, channels = shape[0], shape[1], shape[2]
    size = height * width
    begin = max(0, first - width + 1) if mirrored else max(0, -first)
    end = min(width, first + 1) if mirrored else min(width, width - first)
    if begin >= end:  # nothing is visible, but reads must stay inside
        begin, end, first, mirrored = 0, 0, 0, False
    # an extra row on either side, because lanes may begin left of the first pixel or end right of the last; two
    # dimensions, because FFCV makes flat arrays of bytes read-only in the whole process
    planes = np.empty((1, channels * size + 2 * width), np.uint8)
    _separate_channels(pixels.reshape(-1), planes, width, size, channels)
    out = place.reshape(-1)
    # the look-ups below use the arrays themselves, which keeps both alive while their addresses are used
    planes_address, out_address = np.int64(planes.ctypes.data), np.int64(place.ctypes.data)
    for channel in range(channels):
        # scalars, because the compiler cannot exclude that the output overlaps the lines
        slope, offset = lines[channel, 0], lines[channel, 1]
        slope_rest, offset_rest = lines[channel, 2], lines[channel, 3]
        computed = slope != 0 and LANES <= width <= WIDEST
        for y in range(height):
            row, row_end = y + down, end
            if not 0 <= row < height:
                row, row_end = y, begin
            source, target = width + channel * size + row * width + first, channel * size + y * width
            if computed:
                read, written = planes_address + source, out_address + 4 * target
                compute_row(read, written, width, begin, row_end, mirrored, slope, offset, slope_rest, offset_rest)
            else:
                step = -1 if mirrored else 1
                _look_up(planes, source, step, out, target, width, begin, row_end, table[channel])
