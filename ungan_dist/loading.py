"""Load a model of a run from its folder or from object storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.runs.record import CONFIG_FILE, RunRecord, read_run
from ungan_dist.urls import is_url, join_url, split_run

if TYPE_CHECKING:
    from torch import nn

    from ungan_dist.training.own_model import GivenModel


def load(
    run: str | Path,
    method: str,
    *,
    seed: int = 0,
    model: GivenModel | None = None,
    trust: bool = False,
) -> nn.Module:
    """Load an unlearned model of a run, in eval mode on the CPU.

    Opening a run executes no code of it. A model of your own is made by code, which you therefore name again.

    Args:
        run: The run folder, or its URL in object storage.
        method: The method's name on the command line, for example ``"ungan"``.
        seed: The audit seed.
        model: Your own model, for a run of one: the module that receives the weights, the function that makes it, or
            the function's name ``module:function``.
        trust: Import and call the function that the run's record names. Set it only for a run that you made.

    Raises:
        ConfigError: this is not a run folder, the run has no such model, or its model must be given.
        CorruptResult: the weights differ from those that were committed, or are another run's.

    Examples:
        >>> model = load("runs/digits-0123abcd", "ungan")  # doctest: +SKIP
        >>> model = load("runs/custom-0123abcd", "ungan", model=make_model)  # doctest: +SKIP
    """
    from ungan_dist.runs.targets import target_marker
    from ungan_dist.training.own_model import make_model
    from ungan_dist.training.weights import load_weights

    url = run if isinstance(run, str) and is_url(run) else None
    folder = Path(run) if url is None else _fetch(url, target_marker(seed, method))
    record = read_run(folder)
    path = folder / f"models/{seed}/{method}.safetensors"
    if not path.is_file():
        there = sorted(str(p.relative_to(folder / "models"))[: -len(p.suffix)] for p in folder.glob("models/*/*"))
        raise ConfigError(f"{folder} has no model of {method!r} for seed {seed}; it has (seed/method): {there}")
    try:
        _check(record, folder, method, seed)
        made = make_model(
            record.config.model,
            architecture=record.architecture,
            channels=record.channels,
            num_classes=record.num_classes,
            given=model,
            trust=trust,
        )
        return load_weights(made, path)
    except ValueError as error:
        # the user's code or weights may have changed
        raise ConfigError(str(error)) from error


def _check(record: RunRecord, folder: Path, method: str, seed: int) -> None:
    """Check that a model is intact and is the one of this run, seed and method."""
    from ungan_dist.runs.targets import target_id, target_marker
    from ungan_dist.training.weights import locate_weights

    marker, weights = target_marker(seed, method), f"models/{seed}/{method}.safetensors"
    altered = f"{folder / weights} differs from the committed file"
    try:
        content = store.read_marker(folder / marker)
    except (OSError, store.CorruptResult) as error:
        raise store.CorruptResult(f"{altered} ({error}): run the audit again to restore it") from error
    if store.committed(folder, marker, id=content["id"], files=[weights]) is None:
        raise store.CorruptResult(f"{altered}: run the audit again to restore it")
    sha256 = ""
    if method == "unlearned":
        sha256 = content["facts"].get("weights") or locate_weights(record.config.given.unlearned or "").sha256
    if content["id"] != target_id(record.run_hash, record.resolved, method, seed, sha256):
        raise store.CorruptResult(f"{folder / weights} is of another run, seed or method: run the audit again")


def _fetch(url: str, marker: str) -> Path:
    """Fetch the record and one result of a run, and return their folder on this machine."""
    from ungan_dist.runs.storage.mirror import connect

    output, name = split_run(url)
    mirror = connect(output)
    if not mirror.pull_json(f"{name}/{CONFIG_FILE}"):
        raise ConfigError(f"{url} is not a run: it has no readable {CONFIG_FILE}")
    if mirror.pull(name, marker) == "damaged":
        raise store.CorruptResult(f"{join_url(url, marker)} or one of its files is damaged: run the audit again")
    return mirror.folder / name
