"""Whether several processes can share a model's batches: found out before anything is trained."""

from __future__ import annotations

import torch
from torch import nn

from ungan_dist.config.audit import AuditConfig
from ungan_dist.data.seeds import seed_layers
from ungan_dist.data.sources.source import Source
from ungan_dist.training.batch_norm import use_global_statistics
from ungan_dist.training.models import build
from ungan_dist.training.world import World


def check_shares(config: AuditConfig, source: Source) -> list[str]:
    """Tries the classifier on a share without rows, and looks at its batch norms.

    Returns:
        What the report should say.

    Raises:
        ValueError: the model cannot be trained by several processes as by one.
    """
    if config.train.num_workers == 1:
        return []
    channels = source.images.shape[-1]
    model = build(config.model, channels=channels, num_classes=source.num_classes, seed=0, device=torch.device("cpu"))
    _refuse_if_no_rows_are_too_few(model, torch.zeros(0, channels, *source.images.shape[1:3]))
    if config.train.sync_batch_norm:
        use_global_statistics(model, World())
    if not _draws(model, torch.randn(2, channels, *source.images.shape[1:3], generator=torch.Generator())):
        return []
    return [
        f"The model draws at random inside its layers, as dropout does: {config.train.num_workers} processes that "
        f"share a batch draw otherwise than one, so what they train differs from one process's by more than rounding."
    ]


def _refuse_if_no_rows_are_too_few(model: nn.Module, nothing: torch.Tensor) -> None:
    for training in (True, False):
        try:
            with torch.no_grad(), seed_layers("check"):
                model.train(training)(nothing)
        except Exception as error:  # whatever the user's code raises is told as theirs
            raise ValueError(
                f"the model cannot take a batch without rows, such as a process's share of a small batch is "
                f"({type(error).__name__}: {error}): write x.flatten(1) for x.view(x.size(0), -1), or take "
                f"--train.num-workers 1"
            ) from error


def _draws(model: nn.Module, pictures: torch.Tensor) -> bool:
    """Whether a model in training mode says something else under other random numbers."""
    outputs: list[torch.Tensor] = []
    model.train()
    for seed in (0, 1):
        with torch.no_grad(), seed_layers("check", seed):
            outputs.append(model(pictures))
    return not torch.equal(*outputs)
