"""Evaluate a run's stored models anew, and compare their accuracies and log-odds with the recorded ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from ungan_dist import store
from ungan_dist.data.examples import Examples, hold_examples
from ungan_dist.data.split import list_evaluated_sets
from ungan_dist.errors import ConfigError
from ungan_dist.runs.plan import Plan
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import read_facts, root_of
from ungan_dist.training.evaluate import accuracy, query, query_entropies
from ungan_dist.training.own_model import make_model
from ungan_dist.training.weights import load_weights

TOLERANCE = 0.01
"""Largest difference of log-odds, absolute and relative, between devices and versions of libraries."""
ACCURACY_TOLERANCE = 0.002
"""Largest difference of accuracies; one example may always differ."""


@dataclass(frozen=True, kw_only=True)
class Recomputation:
    """Evaluate stored models again. Models without stored weights, as most shadow models, cannot be evaluated."""

    factory: str | None = None
    """The function that makes the user's model, named again."""
    trust: bool = False
    """Import and call the function that the run's record names."""

    def check(self, plan: Plan) -> Iterator[str]:
        """Compare every stored model of a run with its record, and describe each difference.

        Raises:
            ConfigError: The user's model must be named or trusted, or its code fails.
        """
        data = _examples(plan)
        for unit in (*plan.targets, *plan.shadows):
            facts = read_facts(unit)
            if facts is None:
                continue
            for name, log_odds, model in self._stored_models(plan, unit):
                if not _is_close(query(model, data, _indices(unit, data), unit.queries), log_odds):
                    yield f"{unit.title}: the log-odds that {name} gives are not the recorded ones"
                if isinstance(unit, TargetUnit) and unit.with_entropies:
                    entropies = store.read_array(root_of(unit) / unit.entropies_file)
                    if not _is_close(query_entropies(model, data, _indices(unit, data), unit.queries), entropies):
                        yield f"{unit.title}: the entropies that {name} gives are not the recorded ones"
                if isinstance(unit, TargetUnit):
                    yield from _compare_accuracies(unit, facts["accuracy"], model, data)

    def _stored_models(
        self, plan: Plan, unit: TargetUnit | ShadowUnit
    ) -> Iterator[tuple[str, Float[np.ndarray, "pool queries"], nn.Module]]:
        """Yield the files of weights that a unit has, with the recorded log-odds and the model."""
        root = root_of(unit)
        recorded = store.read_array(root / unit.log_odds_file)
        if isinstance(unit, TargetUnit):
            yield unit.weights_file, recorded, self._load(plan, root / unit.weights_file)
            return
        stored = store.read_marker(root / unit.marker)["files"]
        for shadow, log_odds in zip(unit.shadows, recorded, strict=True):
            if unit.weights_file(shadow) in stored:
                yield unit.weights_file(shadow), log_odds, self._load(plan, root / unit.weights_file(shadow))

    def _load(self, plan: Plan, path: Path) -> nn.Module:
        record = plan.record
        try:
            model = make_model(
                record.config.model,
                architecture=record.architecture,
                channels=record.channels,
                num_classes=record.num_classes,
                size=record.input_size,
                given=self.factory,
                trust=self.trust,
            )
            return load_weights(model, path).to(_device())
        except ValueError as error:
            raise ConfigError(str(error)) from error


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _examples(plan: Plan) -> Examples:
    """Read the data from their source, not from the output folder, with the reference of every kernel."""
    source, device = plan.source, _device()
    return hold_examples(
        source.images,
        source.labels,
        mean=source.mean,
        std=source.std,
        num_classes=source.num_classes,
        device=device,
    )


def _indices(unit: TargetUnit | ShadowUnit, data: Examples) -> torch.Tensor:
    pool = unit.split.pool if isinstance(unit, TargetUnit) else unit.pool
    return torch.from_numpy(pool).to(data.device)


def _is_close(found: np.ndarray, recorded: np.ndarray) -> bool:
    return found.shape == recorded.shape and np.allclose(found, recorded, rtol=TOLERANCE, atol=TOLERANCE)


def _compare_accuracies(
    unit: TargetUnit, recorded: dict[str, float], model: nn.Module, data: Examples
) -> Iterator[str]:
    for name, examples in list_evaluated_sets(unit.split, unit.draw).items():
        found = accuracy(model, data, torch.tensor(examples, device=data.device))
        if abs(found - recorded[name]) > max(1 / len(examples), ACCURACY_TOLERANCE) + 1e-9:
            yield f"{unit.title}: its accuracy on {name} is {found:.4f}, recorded is {recorded[name]:.4f}"
