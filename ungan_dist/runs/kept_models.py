"""Check that a model in a run's folder is intact and is the one that the run made."""

from __future__ import annotations

from pathlib import Path

from ungan_dist import store
from ungan_dist.config.own.functions import is_own
from ungan_dist.runs.operations import settings_of_target
from ungan_dist.runs.record import RunRecord
from ungan_dist.runs.targets import name_target, target_id, target_marker
from ungan_dist.training.given_weights import locate_weights


def place_weights(method: str, seed: int, unlearning: int = 0) -> str:
    """Return the name of a model's file in its run's folder."""
    return f"models/{seed}/{name_target(method, unlearning)}.safetensors"


def check_kept_model(record: RunRecord, folder: Path, method: str, seed: int, unlearning: int = 0) -> None:
    """Check that a model is intact and is the one of this run, seed and method.

    Raises:
        CorruptResult: It is not.
        ValueError: The user's file of weights that it was read from is absent.
    """
    marker, weights = target_marker(seed, method, unlearning), place_weights(method, seed, unlearning)
    altered = f"{folder / weights} differs from the committed file"
    try:
        content = store.read_marker(folder / marker)
    except (OSError, store.CorruptResult) as error:
        raise store.CorruptResult(f"{altered} ({error}): run the audit again to restore it") from error
    if store.committed(folder, marker, id=content["id"], files=[weights]) is None:
        raise store.CorruptResult(f"{altered}: run the audit again to restore it")
    sha256 = ""
    if method in ("unlearned", "retrain"):  # a retrained model may be given too
        sha256 = content["facts"].get("weights", "")
    if method == "unlearned" and not sha256:
        sha256 = locate_weights(record.config.given.unlearned or "").sha256
    source = content["facts"].get("source", "") if is_own(method) else ""
    settings = settings_of_target(record, method)
    if content["id"] != target_id(record.run_hash, settings, method, seed, sha256, source, unlearning):
        raise store.CorruptResult(f"{folder / weights} is of another run, seed or method: run the audit again")
