"""TensorBoard: event files in ``RUN/tensorboard``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes event files. ``tensorboard --logdir`` of the output folder shows all runs in it."""

    name = "tensorboard"

    def start(self, folder: Path, config: Mapping[str, Any], state: str) -> str:
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        if not state:
            self._writer.add_text("config", f"```\n{json.dumps(config, indent=2)}\n```")
        return "started"

    def log_curve(self, name: str, values: Sequence[float]) -> None:
        for step, value in enumerate(values, start=1):
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def log_texts(self, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            self._writer.add_text(name, text)
        self._writer.flush()

    def log_report(self, files: Mapping[str, bytes]) -> None:
        # it keeps no files; the page itself is beside its folder
        self._writer.add_text("report", files["table.md"].decode())
        self._writer.flush()

    def finish(self) -> None:
        self._writer.close()
