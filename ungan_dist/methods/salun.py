"""SalUn: random labels on the weights with the largest gradients of the forget set; the others stay as they are.

Source: Fan et al. 2024, *SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency*.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from ungan_dist.config.methods import SalUnConfig
from ungan_dist.data.random_labels import draw_random_labels
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.gradients import batch_gradients, split_like, trainable
from ungan_dist.training.optimizers import make_optimizer


def salun(request: Request, config: SalUnConfig) -> Unlearned:
    """Minimise the cross-entropy of D_r and of D_f with random labels, by SGD over the salient weights.

    Labels are redrawn in each epoch. Other weights keep the original's bits, whatever momentum and weight decay say.
    """
    model = request.copy_original()
    parameters = trainable(model)
    optimizer = make_optimizer(
        torch.optim.SGD,
        parameters,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    _keep_others(optimizer, parameters, split_like(find_salient(model, request, config.saliency), parameters))
    sets = {"salun": torch.cat([request.retain, request.forget])}
    if config.passes == "salun_cifar10":
        sets = {"salun, forget": request.forget, "salun, retain": request.retain}
    losses: list[float] = []
    epochs = request.epochs(model=model, optimizer=optimizer, losses=losses)
    for epoch in epochs.iterate("salun", config.epochs):
        labels = draw_random_labels(request.data, request.forget, derive_seed("labels", request.seed, epoch))
        of_passes = [
            request.train_pass(model, indices, optimizer, epoch=epoch, purpose=purpose, labels=labels)
            for purpose, indices in sets.items()
        ]
        losses.append(sum(of_passes) / len(of_passes))
    return Unlearned(model=model.eval(), curves={"cross-entropy": losses})


def find_salient(model: nn.Module, request: Request, share: float) -> Bool[Tensor, " weights"]:
    """Return which weights have the largest gradients of the forget set: sums over batches, in eval mode, unsigned."""
    model.eval()
    batches = request.forget.split(request.train.batch_size)
    gradients = batch_gradients(model, request.data, batches, request.world)
    total = sum(gradients, torch.zeros((), device=request.device))
    model.train()
    is_salient = torch.zeros_like(total, dtype=torch.bool)
    is_salient[total.abs().argsort(descending=True, stable=True)[: int(len(total) * share)]] = True
    return is_salient


def _keep_others(
    optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], is_trained: list[Bool[Tensor, ...]]
) -> None:
    """Undo, after each step of the optimizer, the change of every weight that is not trained."""
    kept = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def restore(*arguments: Any) -> None:
        del arguments
        for parameter, before, mask in zip(parameters, kept, is_trained, strict=True):
            parameter.copy_(torch.where(mask, parameter, before))

    optimizer.register_step_post_hook(restore)
