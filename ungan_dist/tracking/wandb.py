"""Weights & Biases: a run of the project ``ungan_dist``, offline unless ``WANDB_MODE`` says otherwise."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# it need not be installed where types are checked
wandb: Any = importlib.import_module("wandb")

PROJECT = "ungan_dist"


class WandB:
    """Writes to ``wandb`` in the output folder, which ``wandb sync`` uploads. ``WANDB_MODE=online`` uploads at once."""

    name = "wandb"

    def start(self, folder: Path, config: Mapping[str, Any], state: str) -> str:
        self._run = wandb.init(
            project=PROJECT,
            name=folder.name,
            id=state or None,
            resume="allow" if state else None,
            mode=_mode(),
            dir=str(folder.parent),
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True, disable_git=True, save_code=False),
        )
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("report", hidden=True)
        return self._run.id

    def log_curve(self, name: str, values: Sequence[float]) -> None:
        self._run.define_metric(name, step_metric="epoch")
        for epoch, value in enumerate(values, start=1):
            self._run.log({name: value, "epoch": epoch})

    def log_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        for name in numbers:
            self._run.define_metric(name, step_metric="report")
        self._run.log({**numbers, "report": step})

    def log_texts(self, texts: Mapping[str, str]) -> None:
        self._run.summary.update(dict(texts))

    def log_report(self, files: Mapping[str, bytes]) -> None:
        artifact = wandb.Artifact(f"report-{self._run.id}", type="report")
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder) / name
                path.write_bytes(content)
                artifact.add_file(str(path), name=name)
            self._run.log_artifact(artifact)

    def finish(self) -> None:
        self._run.finish()


def _mode() -> Any:
    return os.environ.get("WANDB_MODE") or "offline"
