"""SCRUB: the student diverges from its teacher, the original, on the forget set and matches it on the retain set.

Source: Kurmanji et al. 2023, *Towards Unbounded Machine Unlearning*, and its published code for the presets.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.methods.scrub import SCRUBConfig, SCRUBSettings
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.evaluate import accuracy
from ungan_dist.training.optimizers import make_optimizer
from ungan_dist.training.teachers import WithTeachers


def scrub(request: Request, config: SCRUBConfig) -> Unlearned:
    """In each epoch, maximise KD_T on D_f (only while e ≤ msteps), then minimise γ·CE + α·KD_T on D_r.

    MUFAC's code has these two passes in the other order.
    """
    settings = config.settings()
    student = request.copy_original()
    both = WithTeachers(student, request.original)
    optimizer = _optimizer(student, settings)
    curves: dict[str, list[float]] = {"forget divergence": [], "retain loss": []}
    history: list[tuple[float, dict[str, Tensor]]] = []

    def negative_divergence(logits: Tensor, labels: Tensor) -> Tensor:
        del labels
        return -divergence(logits[0], logits[1], settings.temperature)

    def retain_loss(logits: Tensor, labels: Tensor) -> Tensor:
        kd = divergence(logits[0], logits[1], settings.temperature)
        return settings.gamma * functional.cross_entropy(logits[0], labels) + settings.alpha * kd

    def leave_teacher(epoch: int) -> None:
        if epoch <= settings.msteps:
            loss = request.train_pass(
                both,
                request.forget,
                optimizer,
                epoch=epoch,
                purpose="scrub, forget",
                batch_size=settings.forget_batch_size,
                loss=negative_divergence,
            )
            curves["forget divergence"].append(-loss)

    def match_teacher(epoch: int) -> None:
        loss = request.train_pass(
            both,
            request.retain,
            optimizer,
            epoch=epoch,
            purpose="scrub, retain",
            batch_size=settings.retain_batch_size,
            loss=retain_loss,
        )
        curves["retain loss"].append(loss)

    passes = (leave_teacher, match_teacher) if config.order == "scrub" else (match_teacher, leave_teacher)
    epochs = request.epochs(student=student, optimizer=optimizer, curves=curves, history=history)
    for epoch in (done + 1 for done in epochs.iterate("scrub", settings.epochs)):
        optimizer.param_groups[0]["lr"] = _learning_rate(settings, epoch)
        for run_pass in passes:
            run_pass(epoch)
        if config.rewind:
            forget_accuracy = accuracy(student.eval(), request.data, request.forget, request.world)
            history.append((forget_accuracy, copy.deepcopy(student.state_dict())))
            student.train()
    student.eval()
    if config.rewind:
        reference = accuracy(student, request.data, request.unseen, request.world)
        _, weights = min(history, key=lambda moment: abs(moment[0] - reference))
        student.load_state_dict(weights)
    return Unlearned(model=student, curves=curves)


def divergence(
    student: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"], temperature: float
) -> Float[Tensor, ""]:
    """Return KD_T = T² · KL(teacher ‖ student) at temperature T, mean over the batch, in nats."""
    soft_student, soft_teacher = ((logits / temperature).log_softmax(dim=1) for logits in (student, teacher))
    return temperature**2 * functional.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)


def _optimizer(student: nn.Module, settings: SCRUBSettings) -> torch.optim.Optimizer:
    """Create an optimizer for the student's parameters only; the teacher stays frozen."""
    parameters, decay = student.parameters(), settings.weight_decay
    if settings.optimizer == "adam":
        return make_optimizer(torch.optim.Adam, parameters, lr=settings.learning_rate, weight_decay=decay)
    return make_optimizer(
        torch.optim.SGD, parameters, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=decay
    )


def _learning_rate(settings: SCRUBSettings, epoch: int) -> float:
    """Divide the rate by 10 after each decay epoch; as in the published code, that epoch itself keeps the old rate."""
    return settings.learning_rate * 0.1 ** sum(epoch > decay for decay in settings.decay_epochs)
