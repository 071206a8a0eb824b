"""Influence unlearning: one Newton step that undoes the forget set, with WoodFisher's estimate of the inverse Hessian.

Sources: Izzo et al. 2021; Jia et al. 2023, *Model Sparsity Can Simplify Machine Unlearning*, which takes WoodFisher
(Singh and Alistarh 2020), and its authors' code.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ungan_dist.config.methods import InfluenceConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.gradients import batch_gradients, flatten, trainable, write_weights


def influence(request: Request, config: InfluenceConfig) -> Unlearned:
    """Add α · H⁻¹ · v to the weights, v = n_f/n · (mean gradient of D_f − mean gradient of D_r), in eval mode."""
    model = request.copy_original().eval()
    batch_size = config.batch_size or request.train.batch_size
    num_forget, num_retain = len(request.forget), len(request.retain)
    share = num_forget / (num_forget + num_retain)
    of_forget = _mean_gradient(model, request, request.forget, batch_size)
    of_retain = _mean_gradient(model, request, request.retain, batch_size)
    step = _multiply_by_inverse(model, request, share * (of_forget - of_retain), config.fisher_examples)
    parameters = trainable(model)
    write_weights(parameters, flatten(parameters) + config.alpha * step)
    return Unlearned(model=model, curves={})


def _mean_gradient(
    model: nn.Module, request: Request, indices: Int[Tensor, " set"], batch_size: int
) -> Float[Tensor, " weights"]:
    batches = indices.split(batch_size)
    gradients = batch_gradients(model, request.data, batches, request.world)
    sums = (len(batch) * gradient for batch, gradient in zip(batches, gradients, strict=True))
    return sum(sums, torch.zeros((), device=request.device)) / len(indices)


def _multiply_by_inverse(
    model: nn.Module, request: Request, vector: Float[Tensor, " weights"], num_examples: int
) -> Float[Tensor, " weights"]:
    """Multiply a vector by the inverse as the authors' code does, one retain example after the other.

    With the Sherman-Morrison formula, each example would change the direction ``probe`` to its own gradient. The code
    keeps the first example's, scaled.
    """
    result, probe = vector.clone(), torch.zeros_like(vector)
    # the code stops one example after the index has passed N
    examples = request.retain[: num_examples + 2].split(1)
    for number, gradient in enumerate(batch_gradients(model, request.data, examples, request.world)):
        if number == 0:
            probe = gradient.clone()
            continue
        along = probe @ gradient
        result -= (result @ gradient) / (num_examples + along) * probe
        probe -= along / (num_examples + along) * probe
    return result
