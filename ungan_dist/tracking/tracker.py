"""What a tracker does, and how one is opened by its name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ungan_dist.errors import ConfigError


@runtime_checkable
class Tracker(Protocol):
    """Receives what an audit finds. ``audit(config, tracker=…)`` takes any object with these methods.

    A method may raise. The audit then warns, does not call the tracker again, and goes on. What the tracker missed is
    logged by the next call of ``audit`` with the same config.

    Examples:
        >>> class Printer:
        ...     name = "printer"
        ...     def start(self, folder, config, state): return ""
        ...     def log_curve(self, name, values): print(name, len(values))
        ...     def log_numbers(self, numbers, step): print(sorted(numbers)[0])
        ...     def log_texts(self, texts): print(texts)
        ...     def log_report(self, files): print(sorted(files))
        ...     def finish(self): pass
        >>> tracker: Tracker = Printer()
        >>> tracker.log_curve("ungan/seed 0/critic", [0.5, 0.25])
        ungan/seed 0/critic 2
    """

    @property
    def name(self) -> str:
        """Name under which the run folder keeps what was logged."""
        ...

    def start(self, folder: Path, config: Mapping[str, Any], state: str) -> str:
        """Begin to track a run, or continue.

        Args:
            folder: the run folder.
            config: the config as far as it decides the results, without paths.
            state: what this method returned when the run was tracked first; empty before.

        Returns:
            A text by which the run is continued, such as the tracker's id of it.
        """
        ...

    def log_curve(self, name: str, values: Sequence[float]) -> None:
        """Log a loss per epoch or round, from 1 on. The name is ``METHOD/seed N/LOSS``."""
        ...

    def log_numbers(self, numbers: Mapping[str, float], step: int) -> None:
        """Log AUCs, gaps and accuracies of the report by ``NUMBER/METHOD``. The step counts the run's reports."""
        ...

    def log_texts(self, texts: Mapping[str, str]) -> None:
        """Log the verdicts by ``verdict/METHOD``."""
        ...

    def log_report(self, files: Mapping[str, bytes]) -> None:
        """Keep ``report.html``, without pictures of examples, ``table.md`` and ``table.json``."""
        ...

    def finish(self) -> None:
        """End the process's part; called once, also after an error of the audit."""
        ...


_EXTRAS = {
    "tensorboard": ("ungan_dist.tracking.tensorboard", "TensorBoard"),
    "mlflow": ("ungan_dist.tracking.mlflow", "MLflow"),
    "wandb": ("ungan_dist.tracking.wandb", "WandB"),
}


def open_tracker(name: str) -> Tracker:
    """Open a tracker by its name in ``--tracking``; its library is imported only now.

    Raises:
        ConfigError: The library is not installed.
    """
    module, kind = _EXTRAS[name]
    try:
        return getattr(importlib.import_module(module), kind)()
    except ImportError as error:
        raise ConfigError(
            f"--tracking {name} needs a library that cannot be imported ({error}): pip install 'ungan-dist[{name}]'"
        ) from error
