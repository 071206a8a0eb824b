"""Gradients of whole batches as vectors, for methods that read them instead of taking optimizer steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.data.examples import Examples, gather
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.world import SINGLE_PROCESS, World


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def batch_gradients(
    model: nn.Module, data: Examples, batches: Iterable[Int[Tensor, " _"]], world: World = SINGLE_PROCESS
) -> Iterator[Float[Tensor, " weights"]]:
    """Yield the gradient of each batch's mean cross-entropy by all trainable weights, in their order.

    The images are not augmented, and the model's mode stays as it is. All processes share each batch.

    Examples:
        >>> from ungan_dist.testing import make_request
        >>> request = make_request()
        >>> model = request.copy_original().eval()
        >>> (gradient,) = batch_gradients(model, request.data, [request.forget])
        >>> len(gradient) == sum(parameter.numel() for parameter in model.parameters())
        True
    """
    parameters = trainable(model)
    for batch in batches:
        share = world.share(batch)
        logits = forward(model, gather(data, share), num_rows=len(batch))
        labels = data.labels[share]
        part = world.partial_loss(
            lambda: functional.cross_entropy(logits, labels),  # noqa: B023 - called at once
            len(share),
            len(batch),
            logits,
        )
        own = torch.autograd.grad(part, parameters, allow_unused=True)
        filled = [torch.zeros_like(weight) if one is None else one for weight, one in zip(parameters, own, strict=True)]
        yield world.sum(torch.cat([one.flatten() for one in filled]))


@torch.no_grad()
def write_weights(parameters: list[nn.Parameter], vector: Float[Tensor, " weights"]) -> None:
    """Write a vector into parameters, in their order; their layout in memory stays."""
    for parameter, values in zip(parameters, split_like(vector, parameters), strict=True):
        parameter.copy_(values)


def split_like(vector: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Split a vector into tensors of the shapes of parameters."""
    parts = vector.split([parameter.numel() for parameter in parameters])
    return [part.view(parameter.shape) for part, parameter in zip(parts, parameters, strict=True)]


def flatten(parameters: list[nn.Parameter]) -> Float[Tensor, " weights"]:
    """Return the weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in parameters])
