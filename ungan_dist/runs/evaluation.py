"""Evaluate a target for the audit: its log-odds, its accuracies, and what a report asks for beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ungan_dist import store
from ungan_dist.config.methods import OwnMethodConfig, UnlearnedConfig
from ungan_dist.data.split import list_evaluated_sets
from ungan_dist.runs.targets import Target, TargetUnit
from ungan_dist.training.copying import copy_model
from ungan_dist.training.evaluate import accuracy, query, query_entropies, query_probabilities
from ungan_dist.training.models import trainable_copy
from ungan_dist.training.precision import use_precision
from ungan_dist.training.relearning import relearn
from ungan_dist.training.train import use_threads
from ungan_dist.training.weights import weights_bytes


def evaluate_target(unit: TargetUnit, target: Target) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Evaluate a target for the audit, in one process.

    Returns:
        The files to commit, by name in the run folder, and the facts for their marker.
    """
    request, model, data = target.request, target.model, target.request.data
    with use_threads(unit.train.num_threads), use_precision("fp32"):
        evaluated = list_evaluated_sets(unit.split, unit.draw)
        sets = {name: torch.tensor(indices, device=data.device) for name, indices in evaluated.items()}
        pool = torch.tensor(unit.split.pool, device=data.device)
        files = {
            unit.weights_file: weights_bytes(model),
            unit.log_odds_file: store.array_bytes(query(model, data, pool, unit.queries)),
            unit.unseen_file: store.array_bytes(query(model, data, request.unseen, unit.queries)),
        }
        if unit.with_entropies:
            files[unit.entropies_file] = store.array_bytes(query_entropies(model, data, pool, unit.queries))
        if unit.with_outputs:
            both = (model, copy_model(request.fresh, request.rebuild).eval())
            outputs = np.stack([query_probabilities(one, data, request.forget) for one in both])
            files[unit.outputs_file] = store.array_bytes(outputs)
        if unit.with_relearning:
            student = trainable_copy(model, like=request.fresh, rebuild=request.rebuild)
            curve = relearn(student, data, request.forget, unit.train, seed=unit.seed)
            files[unit.relearning_file] = store.array_bytes(curve)
        facts = {
            "accuracy": {name: accuracy(model, data, indices) for name, indices in sets.items()},
            "curves": target.curves,
            "num_workers": request.world.size,
            **({"weights": unit.method_config.identity} if isinstance(unit.method_config, UnlearnedConfig) else {}),
            **({"source": unit.method_config.source} if isinstance(unit.method_config, OwnMethodConfig) else {}),
            "unlearning_seconds": target.seconds,
        }
    return files, facts
