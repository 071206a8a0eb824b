"""Command lines, lists and files of an audit of user-supplied models and data."""

from __future__ import annotations

import io
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from in_process import rehearse_here
from PIL import Image

from ungan_dist.cli import main
from ungan_dist.commands.options import recipe_config
from ungan_dist.config.audit import AuditConfig
from ungan_dist.runs.rehearsal import process

NUM_CLASSES = 20
PER_CLASS = 16
SHORT = [
    *("--attack.num-resamples", "100", "--attack.fnr", "0.1", "--train.epochs", "1", "--shadows.num-models", "4"),
    *("--shadows.unit-size", "4", "--output", "out", "--execution.num-processes", "1", "--execution.progress", "none"),
]


def custom_arguments(pictures: Path, lists: Path, *more: str, model: str = "user_models:linear") -> list[str]:
    return [
        *("custom", "--model", model, "--source.path", str(pictures), "--forget", str(lists / "forget.csv")),
        *("--attack.num-resamples", "100", "--attack.fnr", "0.1", "--train.epochs", "1", "--shadows.num-models", "4"),
        *("--shadows.unit-size", "2", "--output", str(lists / "out"), "--execution.run-name", "run"),
        *("--execution.num-processes", "1", "--execution.progress", "none", *more),
    ]


def parse_config(*arguments: str) -> AuditConfig:
    return recipe_config(list(arguments), command="run")


def run_command(*arguments: str) -> int:
    """Run a command line and its rehearsal, restore the signal handler, and return the exit code."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(process, "rehearse_in_process", rehearse_here)
            main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)


def write_noise_parquet(path: Path, ids: list[str]) -> None:
    """Write grey noise of 8 × 8 pixels in 3 classes, with a column of ids."""
    rng = np.random.default_rng(0)
    pictures: list[dict[str, object]] = []
    for _ in ids:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(file, "PNG")
        pictures.append({"bytes": file.getvalue(), "path": None})
    labels = [position % 3 for position in range(len(ids))]
    pq.write_table(pa.table({"image": pictures, "label": labels, "id": ids}), path)
