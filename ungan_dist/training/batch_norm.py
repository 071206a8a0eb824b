"""Batch norm under data-parallel training: statistics of the global batch, or of each process's share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules import batchnorm

from ungan_dist.training.world import World

# the one name that batch norms of one, two and three dimensions share
BatchNorm = batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]


class GlobalBatchNorm(BatchNorm):
    """A batch norm whose training mode normalises by the whole global batch, on any device, empty shares included.

    Each process sends its count, mean and sum of squared deviations; they are combined as Chan et al. (1983) do, which
    loses no digits where a mean is large. Torch's own ``SyncBatchNorm`` runs on CUDA alone.
    """

    def __init__(self, like: BatchNorm, world: World) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self._world = world
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.train(like.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # one, two or three dimensions: whatever the batch norm was that this one stands for

    def forward(self, input: Float[Tensor, "share channels *space"]) -> Float[Tensor, "share channels *space"]:
        if not self.training or self._world.size == 1:
            return super().forward(input)
        rows = input.transpose(0, 1).flatten(1)  # [channels, values]
        num_values = rows.shape[1]
        mean = rows.sum(1) / max(num_values, 1)
        deviations = (rows - mean[:, None]).square().sum(1)
        own = torch.cat([mean, deviations, mean.new_tensor([float(num_values)])])
        everyone = nn.functional.one_hot(torch.tensor(self._world.rank), self._world.size).to(own)[:, None] * own
        means, all_deviations, counts = self._world.sum(everyone).split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (all_deviations + counts * (means - mean).square()).sum(0) / total
        self._track(mean.detach(), variance.detach() * total / (total - 1))
        shape = (1, -1, *(1 for _ in input.shape[2:]))
        output = (input - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        return output if self.weight is None else output * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _track(self, mean: Float[Tensor, " channels"], variance: Float[Tensor, " channels"]) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


REPLACED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""What does exactly what a :class:`GlobalBatchNorm` does for a whole batch; a subclass may do more."""


def with_global_statistics(model: nn.Module, world: World) -> nn.Module:
    """Puts a :class:`GlobalBatchNorm` in the place of every batch norm, weights and names unchanged; in place.

    Raises:
        ValueError: a batch norm that does something else, which its replacement would not do.
    """
    replaced: dict[BatchNorm, GlobalBatchNorm] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(module, BatchNorm) or isinstance(module, GlobalBatchNorm):
            continue
        _refuse_other(name, module)
        # one that has two places stays one
        if module not in replaced:
            replaced[module] = GlobalBatchNorm(module, world)
        place, _, last = name.rpartition(".")
        setattr(model.get_submodule(place), last, replaced[module])
    return model


def _refuse_other(name: str, module: BatchNorm) -> None:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)  # pyright: ignore[reportPrivateUsage]
    if type(module) not in REPLACED:
        reason = f"{type(module).__name__} may do more than a batch norm"
    elif any(hooks):
        reason = "it has hooks"
    elif module.running_mean is None:
        reason = "it keeps no running statistics, so that it normalises each share by itself in eval mode too"
    elif not name:
        reason = "the model itself is one"
    else:
        return
    raise ValueError(
        f"statistics of the whole batch cannot take the place of the batch norm {name!r} ({reason}): use a plain "
        f"BatchNorm there, or --train.num-workers 1, or --train.no-sync-batch-norm, which is another training"
    )


def refuse_disagreement(model: nn.Module, world: World, title: str) -> None:
    """Refuses what several processes have trained to different weights or statistics.

    Raises:
        RuntimeError: a fault of ours, or a layer that moves a buffer by its own rows.
    """
    if not world.agrees([*model.parameters(), *model.buffers()]):
        raise RuntimeError(
            f"the {world.size} processes that trained {title} hold different weights or buffers: a layer that moves "
            f"a buffer by the rows it sees cannot share them; take --train.num-workers 1"
        )


def own_statistics(*models: nn.Module) -> Iterator[Tensor]:
    """Running statistics that a training step has just moved by one process's rows alone."""
    for model in models:
        for module in model.modules():
            if isinstance(module, BatchNorm) and module.training and not isinstance(module, GlobalBatchNorm):
                yield from (value for value in (module.running_mean, module.running_var) if value is not None)
