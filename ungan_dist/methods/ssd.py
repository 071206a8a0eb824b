"""SSD: dampen the weights that matter more to the forget set than to the whole training set.

Source: Foster et al. 2024, *Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening*.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ungan_dist.config.methods import SSDConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.gradients import batch_gradients, flatten, trainable, write_weights


def ssd(request: Request, config: SSDConfig) -> Unlearned:
    """Multiply weights by λ · I(D) / I(D_f), at most 1, where I(D_f) > α · I(D).

    I is the mean over batches of the squared gradient of their cross-entropy, in eval mode. T_U includes both
    importances, although that of D could be stored with the original.
    """
    model = request.copy_original().eval()
    batch_size = config.batch_size or request.train.batch_size
    of_forget = _measure_importance(model, request, request.forget, batch_size)
    of_all = _measure_importance(model, request, torch.cat([request.retain, request.forget]), batch_size)
    is_chosen = of_forget > config.selection_weighting * of_all
    factor = (config.dampening_constant * of_all / of_forget).clamp(max=1)
    parameters = trainable(model)
    weights = flatten(parameters)
    write_weights(parameters, torch.where(is_chosen, factor * weights, weights))
    return Unlearned(model=model, curves={})


def _measure_importance(
    model: nn.Module, request: Request, indices: Int[Tensor, " set"], batch_size: int
) -> Float[Tensor, " weights"]:
    batches = indices.split(batch_size)
    gradients = batch_gradients(model, request.data, batches, request.world)
    return sum((gradient.square() for gradient in gradients), torch.zeros((), device=request.device)) / len(batches)
