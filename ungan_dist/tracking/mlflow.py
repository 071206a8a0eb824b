"""MLflow: a run of the experiment ``ungan_dist``, by default in a file store in the output folder."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# they need not be installed where types are checked
Metric: Any = importlib.import_module("mlflow.entities").Metric
MlflowClient: Any = importlib.import_module("mlflow.tracking").MlflowClient

EXPERIMENT = "ungan_dist"
BATCH = 500
"""Numbers sent at once; MLflow takes up to 1000."""


class MLflow:
    """Logs to the server or folder that ``MLFLOW_TRACKING_URI`` names; defaults to ``mlruns`` in the output folder."""

    name = "mlflow"

    def start(self, folder: Path, config: Mapping[str, Any], state: str) -> str:
        uri = os.environ.get("MLFLOW_TRACKING_URI") or (folder.parent / "mlruns").as_uri()
        if uri.startswith("file:"):  # MLflow refuses its file store by default, in favour of a database
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = MlflowClient(tracking_uri=uri)
        if state:
            self._run = state
            self._client.update_run(state, status="RUNNING")
            return state
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        self._run = self._client.create_run(experiment, run_name=folder.name).info.run_id
        self._client.log_dict(self._run, dict(config), "config.json")
        return self._run

    def log_curve(self, name: str, values: Sequence[float]) -> None:
        now = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now, step) for step, value in enumerate(values, start=1)]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(self._run, metrics[start : start + BATCH])

    def log_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        now = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now, step) for name, value in numbers.items()]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(self._run, metrics[start : start + BATCH])

    def log_texts(self, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            self._client.set_tag(self._run, name, text)

    def log_report(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            self._client.log_text(self._run, content.decode(), name)

    def finish(self) -> None:
        self._client.set_terminated(self._run)
