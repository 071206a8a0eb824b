"""A picture's bytes [height, width, channels] into normalised float32 [channels, height, width], moved and mirrored.

First the channels are taken apart into planes of bytes, then each plane becomes float32 in one run, and last what
entered from outside is overwritten with the pixel of value 0. The first two steps are vectorised, which they cannot be
as one: 2.0 µs a 32 × 32 picture with a look-up a value, 1.3 µs so (one thread of a busy EPYC, the best of many).

Normalisation is arithmetic only where it gives the table's bits for all 256 values, which is looked at beforehand;
elsewhere it is a look-up. ``fastmath=False`` stands in every function because FFCV compiles its callers with fastmath,
and numba hands that down: sums would be regrouped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import no_type_check

import numpy as np
from jaxtyping import Float32
from numba import njit

_EXACT_BITS = 24
"""Of a float32's significand."""


def exact_lines(
    mean: Sequence[float], std: Sequence[float], table: Float32[np.ndarray, "channels 256"]
) -> Float32[np.ndarray, "channels 4"]:
    """Slope and offset of each channel, coarse and rest; a channel's are zero where its table must be read.

    The coarse slope and offset are multiples of one power of two so large that ``value · slope + offset`` has no
    rounding in float32. What is left is small, and its sum with the coarse part is the only rounding that counts.
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
        if line[0] and _gives(line, table[channel]):
            lines[channel] = line
    return lines


def _gives(line: Float32[np.ndarray, " 4"], column: Float32[np.ndarray, " 256"]) -> bool:
    """Whether a line has the table's bits for every value, with products rounded and with products fused into sums."""
    values = np.arange(256, dtype=np.float32)
    wide, (slope, offset, slope_rest, offset_rest) = values.astype(np.float64), line.astype(np.float64)
    rounded = (values * line[0] + line[1]) + (values * line[2] + line[3])
    fused = (wide * slope + offset).astype(np.float32) + (wide * slope_rest + offset_rest).astype(np.float32)
    return rounded.tobytes() == fused.tobytes() == column.tobytes()


@njit(nogil=True, fastmath=False)
@no_type_check
def _take_apart(flat, source, planes, target, num_pixels, num_channels, size, mirrored):
    """A run of pixels into planes that lie ``size`` bytes apart, backwards if mirrored. Indices are unsigned: numba
    then does not look whether they are negative."""
    one = np.uint64(1)
    if num_channels == 3:
        green, blue = target + size, target + size + size
        if mirrored:
            for x in range(num_pixels):
                at, to = source + np.uint64(3 * x), np.uint64(num_pixels - 1 - x)
                planes[0, target + to] = flat[at]
                planes[0, green + to] = flat[at + one]
                planes[0, blue + to] = flat[at + one + one]
        else:
            for x in range(num_pixels):
                at, to = source + np.uint64(3 * x), np.uint64(x)
                planes[0, target + to] = flat[at]
                planes[0, green + to] = flat[at + one]
                planes[0, blue + to] = flat[at + one + one]
        return
    for channel in range(num_channels):
        start, plane = source + np.uint64(channel), target + np.uint64(channel) * size
        if mirrored:
            for x in range(num_pixels):
                planes[0, plane + np.uint64(num_pixels - 1 - x)] = flat[start + np.uint64(num_channels * x)]
        else:
            for x in range(num_pixels):
                planes[0, plane + np.uint64(x)] = flat[start + np.uint64(num_channels * x)]


@njit(nogil=True, fastmath=False)
@no_type_check
def _compute(planes, source, out, target, count, line):
    slope, offset, slope_rest, offset_rest = line[0], line[1], line[2], line[3]
    for x in range(count):
        value = np.float32(planes[0, source + np.uint64(x)])
        out[target + np.uint64(x)] = (value * slope + offset) + (value * slope_rest + offset_rest)


@njit(nogil=True, fastmath=False)
@no_type_check
def _look_up(planes, source, out, target, count, column):
    for x in range(count):
        out[target + np.uint64(x)] = column[np.uint64(planes[0, source + np.uint64(x)])]


@njit(nogil=True, fastmath=False)
@no_type_check
def _fill(out, target, count, value):
    for x in range(count):
        out[target + np.uint64(x)] = value


@njit(nogil=True, fastmath=False)
@no_type_check
def write_normalised(pixels, shape, table, lines, place, down, first, mirrored):
    """One picture into its place [c, h, w]: output (y, x) is read in row y + ``down``, column ``first`` + x, or
    ``first`` − x if mirrored; what enters from outside is a pixel of value 0.

    ``shape`` is the picture's, as an array that the compiler cannot see into: loops over a row's 32 pixels would be
    unrolled before they are vectorised, and never are.
    """
    height, width, channels = shape[0], shape[1], shape[2]
    size = height * width
    flat, out = pixels.reshape(-1), place.reshape(-1)
    begin = max(0, first - width + 1) if mirrored else max(0, -first)
    end = min(width, first + 1) if mirrored else min(width, width - first)
    top, bottom = min(height, max(0, -down)), max(0, min(height, height - down))
    if begin >= end or top >= bottom:
        for channel in range(channels):
            _fill(out, np.uint64(channel * size), size, table[channel, 0])
        return
    # a row on either side, so that a run that begins left of the first pixel or ends right of the last stays inside;
    # two dimensions, since FFCV turns flat arrays of bytes read-only for the whole process
    planes = np.empty((1, channels * size + 2 * width), np.uint8)
    if mirrored:
        for y in range(top + down, bottom + down):
            at = np.uint64(y * width * channels)
            _take_apart(flat, at, planes, np.uint64((y + 1) * width), width, channels, np.uint64(size), True)
    else:
        _take_apart(flat, np.uint64(0), planes, np.uint64(width), size, channels, np.uint64(size), False)
    shift = width - 1 - first if mirrored else first
    for channel in range(channels):
        start, zero = channel * size, table[channel, 0]
        source, target = np.uint64(start + (top + down + 1) * width + shift), np.uint64(start + top * width)
        if lines[channel, 0] != 0:
            _compute(planes, source, out, target, (bottom - top) * width, lines[channel])
        else:
            _look_up(planes, source, out, target, (bottom - top) * width, table[channel])
        _fill(out, np.uint64(start), top * width, zero)
        _fill(out, np.uint64(start + bottom * width), (height - bottom) * width, zero)
        if begin > 0:
            for y in range(top, bottom):
                _fill(out, np.uint64(start + y * width), begin, zero)
        if end < width:
            for y in range(top, bottom):
                _fill(out, np.uint64(start + y * width + end), width - end, zero)
