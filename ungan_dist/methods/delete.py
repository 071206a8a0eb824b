"""DELETE: imitate, on the forget set alone, the original's outputs without their true class.

Source: Zhou et al. 2025, *Decoupled Distillation to Erase: A General Unlearning Method for Any Class-centric Tasks*.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import DeleteConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.optimizers import make_optimizer
from ungan_dist.training.teachers import WithTeachers

REMOVED = -1e10
"""Logit of a class that is left out."""


def delete(request: Request, config: DeleteConfig) -> Unlearned:
    """Minimise KL(original without the true class ‖ student) on D_f with SGD, in training mode."""
    student = request.copy_original()
    both = WithTeachers(student, request.original)
    optimizer = make_optimizer(torch.optim.SGD, student.parameters(), lr=config.learning_rate, momentum=config.momentum)
    losses: list[float] = []
    epochs = request.epochs(student=student, optimizer=optimizer, losses=losses)
    for epoch in epochs.iterate("delete", config.epochs):
        loss = request.train_pass(
            both, request.forget, optimizer, epoch=epoch, purpose="delete", loss=masked_divergence
        )
        losses.append(loss)
    return Unlearned(model=student.eval(), curves={"forget divergence": losses})


def masked_divergence(logits: Float[Tensor, "2 batch classes"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Return KL(teacher without the true class ‖ student), mean over the batch, in nats."""
    student, teacher = logits
    target = teacher.scatter(1, labels[:, None], REMOVED).softmax(dim=1)
    return functional.kl_div(student.log_softmax(dim=1), target, reduction="batchmean")
