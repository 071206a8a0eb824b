"""Seconds of a small model, as a probe would have measured them."""

from __future__ import annotations

from ungan_dist.runs.forecast.probe import Timing

TIMING = Timing(
    train_seconds=0.02,
    query_seconds=0.001,
    weights_bytes=1000,
    num_examples=200,
    batch_size=32,
    epochs=2,
    is_cold=False,
)
