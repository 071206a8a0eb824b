"""FFCV operations that read, move, mirror and normalise an image in one pass over its pixels.

They replace FFCV's decoders, so that no intermediate copy of the pixels is written. Each index selects an image and its
random draws: the low 32 bits are the example, the high 32 bits a row of the settings. The settings live as long as the
Loader, whose compiled code reads their current values.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, no_type_check

import ffcv._libffcv
import numpy as np
from ffcv.fields.ndarray import NDArrayDecoder
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.state import State
from numba import carray, njit, types
from numba.extending import intrinsic

from ungan_dist.data.ffcv.pixels import exact_lines, write_normalised

SEED_LOW, SEED_HIGH, EPOCH, POSITIONS, RANDOM_FLIP, SHIFT, FLIP, NUM_SETTINGS = range(8)
"""Columns of the settings, int64: seed and epoch of the draws, 2 · padding + 1, and the fixed shift and flip."""

_LIBRARY = ctypes.CDLL(ffcv._libffcv.__file__)
# FFCV's decoder uses the fast transform, which is wrong in two of three pixels. This is the transform of Pillow.
_tj_init = _LIBRARY.tjInitDecompress
_tj_init.argtypes, _tj_init.restype = [], ctypes.c_uint64
_tj_decompress = _LIBRARY.tjDecompress2
_tj_decompress.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, *[ctypes.c_int32] * 5]
_tj_decompress.restype = ctypes.c_int32
_tj_header = _LIBRARY.tjDecompressHeader3
_tj_header.argtypes = [ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, *[ctypes.c_void_p] * 4]
_tj_header.restype = ctypes.c_int32
_tj_destroy = _LIBRARY.tjDestroy
_tj_destroy.argtypes, _tj_destroy.restype = [ctypes.c_uint64], ctypes.c_int32


@intrinsic
@no_type_check
def _int64_pointer(typing_context, address):
    """Convert an address to an int64 pointer. FFCV makes arrays of bytes read-only in the whole process."""

    @no_type_check
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int64)(types.uintp), generate


@njit(nogil=True)
@no_type_check
def decode_jpeg(encoded, pixels):
    """Decode a JPEG into RGB pixels and return 0 on success. An image of another size is an error."""
    handle = _tj_init()
    height, width, _ = pixels.shape
    header = np.zeros(4, np.int32)  # width, height, subsampling, colour space
    status = _tj_header(
        handle,
        encoded.ctypes.data,
        encoded.size,
        header[0:].ctypes.data,
        header[1:].ctypes.data,
        header[2:].ctypes.data,
        header[3:].ctypes.data,
    )
    if status == 0 and (header[0] != width or header[1] != height):
        status = np.int32(-1)
    if status == 0:
        status = _tj_decompress(handle, encoded.ctypes.data, encoded.size, pixels.ctypes.data, width, 0, height, 0, 0)
    _tj_destroy(handle)
    return status


@njit(nogil=True)
@no_type_check
def _philox(seed_low, seed_high, example, epoch):
    """Compute three of Philox4x32-10's four words: key = seed, counter = (example, epoch, 0, 0)."""
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    key_0, key_1 = seed_low, seed_high
    c0, c1, c2, c3 = example & mask, epoch, np.uint64(0), np.uint64(0)
    for _ in range(10):
        product_0, product_1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product_1 >> half) ^ c1 ^ key_0,
            product_1 & mask,
            (product_0 >> half) ^ c3 ^ key_1,
            product_0 & mask,
        )
        key_0, key_1 = (key_0 + np.uint64(0x9E3779B9)) & mask, (key_1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1, c2


@njit(nogil=True)
@no_type_check
def _placement(settings, example, width):
    """Compute the source of output (y, x): row y + ``down``, column ``first`` + x, or ``first`` − x if mirrored."""
    down, first, mirrored = np.int64(0), np.int64(0), False
    if settings[POSITIONS] > 1 or settings[RANDOM_FLIP]:
        words = _philox(
            np.uint64(settings[SEED_LOW]), np.uint64(settings[SEED_HIGH]), example, np.uint64(settings[EPOCH])
        )
        padding, positions, half = (settings[POSITIONS] - 1) // 2, np.uint64(settings[POSITIONS]), np.uint64(32)
        down = np.int64((words[0] * positions) >> half) - padding
        first = np.int64((words[1] * positions) >> half) - padding
        mirrored = settings[RANDOM_FLIP] != 0 and (words[2] >> np.uint64(31)) == 1
        if mirrored:
            first += width - 1
    if settings[FLIP]:
        first, mirrored = width - 1 - first, not mirrored
    return down - settings[SHIFT], first - settings[SHIFT], mirrored


class _Fused:
    """Base of both operations: live settings, the table, and float32 output [channels, height, width]."""

    def configure(
        self,
        settings: np.ndarray,
        failures: np.ndarray,
        table: np.ndarray,
        shape: tuple[int, ...],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        has_jpeg: bool = False,
    ) -> None:
        """Set the arrays that compiled code reads by address. They must not move in memory.

        Args:
            settings: int64 [rows, NUM_SETTINGS].
            failures: int64 [1], set to 1 + the index of an example that cannot be decoded.
            table: float32 [channels, 256].
            shape: height, width and channels of an image.
            mean: mean of each channel in the table.
            std: standard deviation of each channel in the table.
            has_jpeg: whether images are stored as JPEG.
        """
        assert settings.dtype == np.int64
        assert settings.flags.c_contiguous
        self._settings, self._failures = settings, failures
        self._table, self._shape, self._has_jpeg = np.ascontiguousarray(table), shape, has_jpeg
        self._lines, self._live_shape = exact_lines(mean, std, self._table), np.array(shape, np.int64)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        height, width, channels = self._shape
        shape, dtype = (channels, height, width), np.dtype("<f4")
        return replace(previous_state, jit_mode=True, shape=shape, dtype=dtype), AllocationQuery(shape, dtype)


class FusedImageDecoder(_Fused, SimpleRGBImageDecoder):
    """Decoder of FFCV's RGBImageField: raw pixels, or JPEG with Pillow's transform."""

    def generate_code(self) -> Callable[..., Any]:
        many = Compiler.get_iterator()
        read = self.memory_read
        table, lines, (height, width, channels) = self._table, self._lines, self._shape
        num_rows = len(self._settings)
        address, failures_address = self._settings.ctypes.data, self._failures.ctypes.data
        shape_address = self._live_shape.ctypes.data
        has_jpeg = self._has_jpeg

        @no_type_check
        def decode(indices, destination, metadata, storage_state):
            settings = carray(_int64_pointer(address), num_rows * NUM_SETTINGS)
            shape = carray(_int64_pointer(shape_address), 3)
            for position in many(len(indices)):
                example = indices[position] & np.uint64(0xFFFFFFFF)
                begin = np.int64(indices[position] >> np.uint64(32)) * NUM_SETTINGS
                down, first, mirrored = _placement(settings[begin : begin + NUM_SETTINGS], example, width)
                field = metadata[example]
                if has_jpeg and field["mode"] == 0:
                    pixels = np.empty((height, width, channels), np.uint8)
                    if decode_jpeg(read(field["data_ptr"], storage_state), pixels) != 0:
                        failures = carray(_int64_pointer(failures_address), 1)
                        failures[0] = np.int64(example) + 1
                    write_normalised(pixels, shape, table, lines, destination[position], down, first, mirrored)
                else:
                    pointer = field["data_ptr"]
                    raw = storage_state[0][pointer : pointer + np.uint64(height * width * channels)]
                    pixels = raw.reshape(height, width, channels)
                    write_normalised(pixels, shape, table, lines, destination[position], down, first, mirrored)
            return destination[: len(indices)]

        decode.is_parallel = True
        return decode


class FusedArrayDecoder(_Fused, NDArrayDecoder):
    """Decoder of FFCV's NDArrayField of bytes [height, width, channels]."""

    def generate_code(self) -> Callable[..., Any]:
        many = Compiler.get_iterator()
        table, lines, (height, width, channels) = self._table, self._lines, self._shape
        num_rows, address = len(self._settings), self._settings.ctypes.data
        shape_address = self._live_shape.ctypes.data

        @no_type_check
        def decode(indices, destination, metadata, storage_state):
            settings = carray(_int64_pointer(address), num_rows * NUM_SETTINGS)
            shape = carray(_int64_pointer(shape_address), 3)
            for position in many(len(indices)):
                example = indices[position] & np.uint64(0xFFFFFFFF)
                begin = np.int64(indices[position] >> np.uint64(32)) * NUM_SETTINGS
                down, first, mirrored = _placement(settings[begin : begin + NUM_SETTINGS], example, width)
                pointer = metadata[example]
                raw = storage_state[0][pointer : pointer + np.uint64(height * width * channels)]
                pixels = raw.reshape(height, width, channels)
                write_normalised(pixels, shape, table, lines, destination[position], down, first, mirrored)
            return destination[: len(indices)]

        decode.is_parallel = True
        return decode
