"""Time the parts of our loader: ``python benchmarks/loader_limits.py``, two minutes on two idle cores.

The parts are our compiled pixel code without a loader, JPEG decoding alone, and writing zeros. The pixel code writes
into as many buffers as the loader has, then into a few places only, where small images stay in the cache. The data are
those of ``loaders.py``. This is a separate process, because numba does not finish compiling the pixel code for other
arrays once FFCV has Loaders.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
import torch
from harness import as_row, compare, write
from loaders import NUM_PAIRS, SUBJECTS, THREADS
from numba import njit, prange, set_num_threads

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import make_normalisation_table
from ungan_dist.data.ffcv.availability import import_ffcv
from ungan_dist.data.ffcv.images import MAX_BUFFERS
from ungan_dist.data.sources.source import Source

Pass = Callable[[], None]
"""One pass over a whole set."""
FEW = 8
"""Places that each thread writes in turn."""


def write_zeros(source: Source, batch: int) -> Pass:
    """Write zeros into as many buffers as our loader has."""
    height, width = source.images.shape[1:3]
    buffers = [torch.empty(batch, 3, height, width) for _ in range(MAX_BUFFERS)]

    def one_pass() -> None:
        for number, start in enumerate(range(0, len(source.images), batch)):
            buffers[number % MAX_BUFFERS][: len(source.images) - start].zero_()

    return one_pass


def compute_pixels(source: Source, augment: AugmentConfig, batch: int, *, num_threads: int, few: bool) -> Pass:
    """Run our compiled pixel code in a random order, without FFCV.

    It writes into as many buffers as our loader has, or into a few places. Crops and flips are drawn beforehand.
    """
    from ungan_dist.data.ffcv.pixels import exact_lines, write_normalised

    count, height, width, channels = source.images.shape
    table = np.ascontiguousarray(make_normalisation_table(source.mean, source.std).numpy().T)
    lines, shape = exact_lines(source.mean, source.std, table), np.array((height, width, channels))
    buffers = np.empty((MAX_BUFFERS, batch, channels, height, width), np.float32)
    generator = np.random.default_rng(0)
    down, right = generator.integers(-augment.padding, augment.padding + 1, (2, count))
    mirrored = generator.random(count) < 0.5
    first = right + (width - 1) * mirrored

    @njit(parallel=True, nogil=True)
    def compute(images, order, out, places, shape, table, lines, down, first, mirrored):  # noqa: ANN001, ANN202
        for position in prange(len(order)):
            example, place = order[position], places[position]
            write_normalised(
                images[example], shape, table, lines, out[place], down[example], first[example], mirrored[example]
            )

    everywhere = np.arange(batch)
    # each thread processes a contiguous range of positions
    places = everywhere // (batch // num_threads) * FEW + everywhere % FEW if few else everywhere

    order = generator.permutation(count)

    def one_pass() -> None:
        set_num_threads(num_threads)
        for number, start in enumerate(range(0, count, batch)):
            out, some = buffers[0 if few else number % MAX_BUFFERS], order[start : start + batch]
            compute(source.images, some, out, places, shape, table, lines, down, first, mirrored)

    return one_pass


def decode_files(source: Source, batch: int, *, num_threads: int) -> Pass:
    """Decode JPEG files into the memory of one batch, in a random order, without crop or normalisation."""
    from ungan_dist.data.ffcv.operation import decode_jpeg

    files = np.concatenate([np.frombuffer(jpeg, np.uint8) for jpeg in source.jpegs])
    ends = np.cumsum([0, *map(len, source.jpegs)])
    out = np.empty((batch, *source.images.shape[1:]), np.uint8)

    @njit(parallel=True, nogil=True)
    def decode(files, ends, order, out):  # noqa: ANN001, ANN202
        failed = 0
        for position in prange(len(order)):
            example = order[position]
            failed += decode_jpeg(files[ends[example] : ends[example + 1]], out[position]) != 0
        return failed

    order = np.random.default_rng(0).permutation(len(source.jpegs))

    def one_pass() -> None:
        set_num_threads(num_threads)
        for start in range(0, len(order), batch):
            assert not decode(files, ends, order[start : start + batch], out)

    return one_pass


def main() -> None:
    """Measure and write ``results/loader_limits.json``."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    import_ffcv()
    torch.set_num_threads(THREADS)
    load, rows = os.getloadavg(), []
    for make, count, padding, batch in SUBJECTS:
        source, augment = make(count), AugmentConfig(padding=padding, flip=True)
        alone, into_few = (
            compute_pixels(source, augment, batch, num_threads=THREADS, few=few) for few in (False, True)
        )
        rivals = {"our pixels alone, into few places": into_few, "writing zeros": write_zeros(source, batch)}
        if source.jpegs:
            rivals["decoding alone"] = decode_files(source, batch, num_threads=THREADS)
        rows += [
            as_row(
                source.title,
                ratio,
                num_examples=count,
                threads=THREADS,
                batch=batch,
                rival_images_per_s=count / ratio.rival_ms * 1e3,
                ours_images_per_s=count / ratio.ours_ms * 1e3,
                load_average=[round(load[0], 2), round(os.getloadavg()[0], 2)],
            )
            for ratio in compare(alone, rivals, num_pairs=NUM_PAIRS)
        ]
    path = write("loader_limits", rows)
    print(f"written to {path}; `python benchmarks/publish.py` publishes it")


if __name__ == "__main__":
    main()
