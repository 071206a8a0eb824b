"""Batch norm in training: batches of one example, and statistics of the global batch or of each process's share."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules import batchnorm

from ungan_dist.training.precision import in_precision
from ungan_dist.training.world import World

# the common base class of one-, two- and three-dimensional batch norms
BatchNorm = batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]


def forward(
    model: nn.Module,
    images: Float[Tensor, "share channels ..."],
    *,
    num_rows: int | None = None,
    call: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the outputs of a model in the precision of training, also in training mode for a batch of one example.

    One example may give a batch norm a single value per channel, whose variance is undefined. For this batch, all batch
    norms of the model then use their running statistics and leave them unchanged, as in eval mode. If only that layer
    did, its running statistics would not fit what the layers before it normalise in another way, and gradients would
    grow without bound. Every other layer and batch is as usual.

    Args:
        images: this process's share of a batch.
        num_rows: size of the batch; defaults to the share's.
        call: evaluates the model; defaults to the model itself.
    """
    call = in_precision(call or model)
    if (len(images) if num_rows is None else num_rows) != 1:  # a share of a larger batch has two rows or none
        return call(images)
    norms = [
        module
        for module in model.modules()
        if isinstance(module, BatchNorm) and module.training and module.running_mean is not None
    ]
    if not norms or not _gives_single_values(model, call, images, norms):
        return call(images)
    with _in_eval_mode(norms):
        return call(images)


@torch.no_grad()
def _gives_single_values(
    model: nn.Module, call: Callable[[Tensor], Tensor], images: Tensor, norms: Iterable[BatchNorm]
) -> bool:
    """Return whether an image of this size gives one of the batch norms a single value per channel."""
    found = False

    def look(norm: BatchNorm, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        nonlocal found
        given = next((value for value in (*inputs, *named.values()) if isinstance(value, Tensor)), None)
        found = found or (
            given is not None
            and given.numel() == norm.num_features
            and (type(norm) in (GlobalBatchNorm, *REPLACED) or _refuses(norm, inputs, named))
        )

    with contextlib.ExitStack() as stack:
        stack.enter_context(_in_eval_mode(model.modules()))  # no statistics change and no layer draws at random
        for norm in norms:
            stack.enter_context(norm.register_forward_pre_hook(look, with_kwargs=True))
        call(images if len(images) else images.new_zeros(1, *images.shape[1:]))
    return found


def _refuses(norm: BatchNorm, inputs: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Return whether a batch norm raises in training mode, which a class of its own may not do for single values."""
    trial = copy.copy(norm)
    trial._buffers = {name: None if value is None else value.clone() for name, value in norm._buffers.items()}  # pyright: ignore[reportPrivateUsage]
    trial.training = True
    try:
        with torch.random.fork_rng(devices=[]):
            trial.forward(*inputs, **named)
    except ValueError:
        return True
    return False


@contextlib.contextmanager
def _in_eval_mode(modules: Iterable[nn.Module]) -> Iterator[None]:
    changed = [module for module in modules if module.training]
    try:
        for module in changed:
            module.training = False
        yield
    finally:
        for module in changed:
            module.training = True


class GlobalBatchNorm(BatchNorm):
    """A batch norm that normalises by the whole global batch in training mode, on any device and with empty shares.

    Each process sends its count, mean and sum of squared deviations. They are combined as in Chan et al. (1983), which
    keeps precision for large means. Torch's ``SyncBatchNorm`` supports CUDA only.
    """

    def __init__(self, like: BatchNorm, world: World) -> None:
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, like.track_running_stats)
        self._world = world
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.train(like.training)

    @property
    def is_shared(self) -> bool:
        """Whether several processes hold rows of each batch."""
        return self._world.size > 1

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # accept as many dimensions as the replaced batch norm

    def forward(self, input: Float[Tensor, "share channels *space"]) -> Float[Tensor, "share channels *space"]:
        if not self.training or not self.is_shared:
            return super().forward(input)
        dtype, input = input.dtype, input.float() if input.dtype == torch.bfloat16 else input  # statistics in float32
        rows = input.transpose(0, 1).flatten(1)  # [channels, values]
        num_values = rows.shape[1]
        mean = rows.sum(1) / max(num_values, 1)
        deviations = (rows - mean[:, None]).square().sum(1)
        own = torch.cat([mean, deviations, mean.new_tensor([float(num_values)])])
        everyone = nn.functional.one_hot(torch.tensor(self._world.rank), self._world.size).to(own)[:, None] * own
        means, all_deviations, counts = self._world.sum(everyone).split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        if num_values < 2 and total < 2:
            raise ValueError("Expected more than 1 value per channel when training, got one in all processes")
        mean = (counts * means).sum(0) / total
        variance = (all_deviations + counts * (means - mean).square()).sum(0) / total
        self._track(mean.detach(), variance.detach() * total / (total - 1))
        shape = (1, -1, *(1 for _ in input.shape[2:]))
        output = (input - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
        if self.weight is not None:
            output = output * self.weight.view(shape) + self.bias.view(shape)
        return output.to(dtype)

    @torch.no_grad()
    def _track(self, mean: Float[Tensor, " channels"], variance: Float[Tensor, " channels"]) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


REPLACED = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Classes equivalent to ``GlobalBatchNorm`` on a whole batch; a subclass may do more."""


def use_global_statistics(model: nn.Module, world: World) -> nn.Module:
    """Replace every batch norm by a ``GlobalBatchNorm`` in place; weights and names are unchanged.

    Raises:
        ValueError: a batch norm whose behaviour the replacement would change.
    """
    replaced: dict[BatchNorm, GlobalBatchNorm] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(module, BatchNorm) or isinstance(module, GlobalBatchNorm):
            continue
        _refuse_other(name, module)
        # a module used in two places stays one module
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
        reason = "it keeps no running statistics, so it normalises each share separately in eval mode too"
    elif not name:
        reason = "the model itself is one"
    else:
        return
    raise ValueError(
        f"the batch norm {name!r} cannot use statistics of the whole batch ({reason}): use a plain BatchNorm, or "
        f"--train.num-workers 1, or --train.no-sync-batch-norm, which changes results"
    )


def check_replicas(model: nn.Module, world: World, title: str) -> None:
    """Check that all processes hold the same weights and buffers after training.

    Raises:
        RuntimeError: they differ: an internal error, or a layer that updates a buffer from its own rows.
    """
    if not world.are_replicas_equal([*model.parameters(), *model.buffers()]):
        raise RuntimeError(
            f"the {world.size} processes that trained {title} hold different weights or buffers: a layer that updates "
            f"a buffer from its own rows cannot be trained in parallel; use --train.num-workers 1"
        )


def local_statistics(*models: nn.Module) -> Iterator[Tensor]:
    """Yield the running statistics that a training step has updated from one process's rows alone."""
    for model in models:
        for module in model.modules():
            if isinstance(module, BatchNorm) and module.training and not isinstance(module, GlobalBatchNorm):
                yield from (value for value in (module.running_mean, module.running_var) if value is not None)
