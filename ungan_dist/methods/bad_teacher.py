"""Bad Teacher: imitate a model with initial weights on the forget set, and the original on the retain set.

Source: Chundawat et al. 2023, *Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks Using an Incompetent
Teacher*.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import BadTeacherConfig
from ungan_dist.data.examples import shuffle_set
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.optimizers import make_optimizer
from ungan_dist.training.teachers import WithTeachers


def bad_teacher(request: Request, config: BadTeacherConfig) -> Unlearned:
    """Minimise KL(teacher ‖ student) with Adam: the bad teacher's on D_f, the original's on a part of D_r."""
    student = request.copy_original()
    bad = request.copy_fresh().eval().requires_grad_(False)
    everyone = WithTeachers(student, request.original, bad)
    optimizer = make_optimizer(torch.optim.Adam, student.parameters(), lr=config.learning_rate)
    is_forgotten = torch.zeros_like(request.data.labels)
    is_forgotten[request.forget] = 1
    shuffled = shuffle_set(request.retain, request.derive_seed("bad teacher, retain"), 0)
    part = shuffled[: max(1, int(config.retain_fraction * len(shuffled)))]
    indices = torch.cat([request.forget, part])

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return divergence(logits, labels, config.temperature)

    losses: list[float] = []
    epochs = request.epochs(student=student, optimizer=optimizer, losses=losses)
    for epoch in epochs.iterate("bad teacher", config.epochs):
        mean = request.train_pass(
            everyone,
            indices,
            optimizer,
            epoch=epoch,
            purpose="bad teacher",
            batch_size=config.batch_size,
            labels=is_forgotten,
            loss=loss,
        )
        losses.append(mean)
    return Unlearned(model=student.eval(), curves={"divergence": losses})


def divergence(logits: Float[Tensor, "3 batch classes"], is_forgotten: Tensor, temperature: float) -> Float[Tensor, ""]:
    """Return KL(teacher ‖ student) ÷ number of classes, mean over the batch, as the authors' code averages it."""
    student, good, bad = logits / temperature
    weight = is_forgotten[:, None].to(logits.dtype)
    teacher = weight * bad.softmax(dim=1) + (1 - weight) * good.softmax(dim=1)
    return functional.kl_div(student.log_softmax(dim=1), teacher, reduction="batchmean") / logits.shape[2]
