"""Copies to a device: ahead, and without a wait."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from pretend_device import DEVICE, pretend_device
from torch import Tensor

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.rows import ImageTransform, draw_rows, upload_ahead


def overwritten(number: int, requested: list[int]) -> Iterator[Tensor]:
    """Yield one buffer with new values each time, as a reader of files does."""
    buffer = torch.zeros(3)
    for value in range(number):
        requested.append(value)
        yield buffer.fill_(value)


def test_batches_are_copied_one_ahead_and_the_host_waits_for_none() -> None:
    with pretend_device() as counts:
        requested: list[int] = []
        batches = upload_ahead(overwritten(4, requested), torch.device(DEVICE))
        seen: list[Tensor] = []
        for batch in batches:
            assert batch.device.type == DEVICE
            seen.append(batch)
            assert requested == list(range(min(len(seen) + 1, 4)))  # the next one is under way
        assert not counts.waits
        values = torch.stack(seen).cpu()
    assert torch.equal(values, torch.arange(4.0)[:, None].expand(4, 3))


def test_a_cpu_gets_the_buffers_themselves() -> None:
    buffers = list(torch.arange(6.0).split(2))
    assert [one.data_ptr() for one in upload_ahead(iter(buffers), torch.device("cpu"))] == [
        one.data_ptr() for one in buffers
    ]
    assert list(upload_ahead([], torch.device(DEVICE))) == []


def test_drawn_rows_are_uploaded_once() -> None:
    view = ImageTransform(augment=AugmentConfig(padding=2, flip=True), seed=3)
    with pretend_device() as counts:
        rows = draw_rows(np.arange(50), view, torch.device(DEVICE))
        slices = [rows[start : start + 8] for start in range(0, 50, 8)]
        assert counts.operations.total() == 1
        assert not counts.waits
        there = [one.crops.cpu() for one in slices if one.crops is not None]
    here = draw_rows(np.arange(50), view, torch.device("cpu")).crops
    assert here is not None
    assert torch.equal(torch.cat(there, 1), here)
