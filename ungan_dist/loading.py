"""Load a model of a run from its folder or from object storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.urls import is_url, join_url, split_run

if TYPE_CHECKING:
    from torch import nn
from ungan_dist.runs.record import CONFIG_FILE, read_run


def load(run: str | Path, method: str, *, seed: int = 0) -> nn.Module:
    """Load an unlearned model of a run, in eval mode on the CPU.

    Args:
        run: The run folder, or its URL in object storage.
        method: The method's name on the command line, for example ``"ungan"``.
        seed: The audit seed.

    Raises:
        ConfigError: this is not a run folder, or the run has no such model.
        CorruptResult: the weights differ from those that were committed.

    Examples:
        >>> model = load("runs/digits-0123abcd", "ungan")  # doctest: +SKIP
    """
    import torch

    from ungan_dist.runs.targets import target_marker
    from ungan_dist.training.models import build
    from ungan_dist.training.weights import load_weights

    url = run if isinstance(run, str) and is_url(run) else None
    folder = Path(run) if url is None else _fetch(url, target_marker(seed, method))
    record = read_run(folder)
    path = folder / f"models/{seed}/{method}.safetensors"
    if not path.is_file():
        there = sorted(str(p.relative_to(folder / "models"))[: -len(p.suffix)] for p in folder.glob("models/*/*"))
        raise ConfigError(f"{folder} has no model of {method!r} for seed {seed}; it has (seed/method): {there}")
    marker = folder / target_marker(seed, method)
    id = store.read_json(marker)["id"] if marker.is_file() else ""
    if store.committed(folder, target_marker(seed, method), id=id) is None:
        raise store.CorruptResult(f"{path} differs from the committed file: run the audit again to restore it")
    try:
        model = build(
            record.config.model,
            channels=record.channels,
            num_classes=record.num_classes,
            seed=0,
            device=torch.device("cpu"),
        )
        return load_weights(model, path)
    except ValueError as error:
        # only the user's factory can fail here: it is called again, and may have changed
        raise ConfigError(str(error)) from error


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
