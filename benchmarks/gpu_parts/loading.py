"""Time a pass of FFCV's batches to the GPU beside pixels that are there already."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from gpu_parts.pictures import load_pictures, open_source
from gpu_parts.session import Session
from gpu_parts.timing import compare_for
from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import Examples, draw_pass, gather_batches
from ungan_dist.data.ffcv.availability import find_import_error
from ungan_dist.data.ffcv.file import BetonLocation, open_beton, prepare_beton
from ungan_dist.data.rows import split_pass

AUGMENT = AugmentConfig(padding=4, flip=True)


def time_upload(session: Session) -> None:
    """Append images a second, and the largest difference of the pixels."""
    name = "FFCV to the device"
    reason = find_import_error()
    if reason is not None:
        session.append(name, left_out=f"FFCV cannot be imported: {reason}")
        return
    with session.attempt(name):
        source = load_pictures()
        count = min(len(source.images), session.pick(20_000, 48))
        source = dataclasses.replace(source, images=source.images[:count], labels=source.labels[:count], test=None)
        place = BetonLocation(output=session.scratch / "beton", data_hash=source.content_hash)
        prepare_beton(source, place)
        threads = min(8, os.cpu_count() or 1)
        in_file = open_beton(place, session.device, num_threads=threads)
        resident = open_source(source, session.device)
        batch = session.pick(256, 16)
        pairs = zip(_batches(in_file, batch), _batches(resident, batch), strict=True)
        error = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
        ratio = compare_for(
            session.pick(session.seconds_left / 2, 0.0),
            "resident",
            lambda: _consume(resident, batch),
            lambda: _consume(in_file, batch),
        )
        session.append(
            name,
            **dataclasses.asdict(ratio),
            error=error,
            images_per_s=count / ratio.ours_ms * 1e3,
            resident_images_per_s=count / ratio.rival_ms * 1e3,
            threads=threads,
            data=source.title,
        )


def _batches(data: Examples, batch: int) -> Iterator[Tensor]:
    members = torch.arange(data.images.shape[0], device=data.device)
    drawn = draw_pass(data, members, seed=0, epoch=0, augment=AUGMENT)
    return gather_batches(data, [drawn[part] for part in split_pass(len(drawn), batch)])


def _consume(data: Examples, batch: int) -> None:
    """Read every batch as a step would, so that a copy cannot be left behind."""
    total = torch.zeros((), device=data.device)
    for images in _batches(data, batch):
        total += images.sum()
    float(total)
