"""SCRUB: the student leaves its teacher, the original, on the forget set and stays beside it on the retain set.

Source: Kurmanji et al. 2023, *Towards Unbounded Machine Unlearning*, and its published code for the presets.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.methods.scrub import SCRUBConfig, SCRUBSettings
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.checkpoint import Epochs
from ungan_dist.training.evaluate import accuracy
from ungan_dist.training.models import trainable_copy
from ungan_dist.training.train import pass_over


def scrub(request: Request, config: SCRUBConfig) -> Unlearned:
    """In each epoch a pass over D_f that maximises KD_T, while e ≤ msteps, then one over D_r on γ·CE + α·KD_T."""
    settings = config.settings()
    student = trainable_copy(request.original, like=request.fresh)
    both = _Beside(student, request.original)
    optimizer = _optimizer(student, settings)
    curves: dict[str, list[float]] = {"forget divergence": [], "retain loss": []}
    history: list[tuple[float, dict[str, Tensor]]] = []

    def away(logits: Tensor, labels: Tensor) -> Tensor:
        del labels
        return -divergence(logits[0], logits[1], settings.temperature)

    def near(logits: Tensor, labels: Tensor) -> Tensor:
        kd = divergence(logits[0], logits[1], settings.temperature)
        return settings.gamma * functional.cross_entropy(logits[0], labels) + settings.alpha * kd

    epochs = Epochs(
        request.checkpoint,
        request.world,
        request.seed,
        student=student,
        optimizer=optimizer,
        curves=curves,
        history=history,
    )
    for epoch in (done + 1 for done in epochs.of("scrub", settings.epochs)):
        optimizer.param_groups[0]["lr"] = _learning_rate(settings, epoch)
        if epoch <= settings.msteps:
            loss = pass_over(
                both,
                request.data,
                request.forget,
                optimizer,
                batch_size=settings.forget_batch_size or request.train.batch_size,
                seed=derive_seed("scrub, forget", request.seed),
                epoch=epoch,
                augment=request.train.augment,
                world=request.world,
                loss_of=away,
            )
            curves["forget divergence"].append(-loss)
        loss = pass_over(
            both,
            request.data,
            request.retain,
            optimizer,
            batch_size=settings.retain_batch_size or request.train.batch_size,
            seed=derive_seed("scrub, retain", request.seed),
            epoch=epoch,
            augment=request.train.augment,
            world=request.world,
            loss_of=near,
        )
        curves["retain loss"].append(loss)
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
    """KD_T = T² · KL(teacher ‖ student) at temperature T, mean over the batch, in nats."""
    soft_student, soft_teacher = ((logits / temperature).log_softmax(dim=1) for logits in (student, teacher))
    return temperature**2 * functional.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)


class _Beside(nn.Module):
    """Student and teacher on the same pictures, so that the common training pass serves both."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "2 batch classes"]:
        with torch.no_grad():
            teacher_logits = self.teacher(images)
        return torch.stack([self.student(images), teacher_logits])


def _optimizer(student: nn.Module, settings: SCRUBSettings) -> torch.optim.Optimizer:
    """Over the student's parameters: an optimizer that holds the teacher's as well would change nothing or both."""
    parameters, decay = student.parameters(), settings.weight_decay
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum, weight_decay=decay)


def _learning_rate(settings: SCRUBSettings, epoch: int) -> float:
    """A tenth after each decay epoch: in the published code the rate still holds during that epoch itself."""
    return settings.learning_rate * 0.1 ** sum(epoch > decay for decay in settings.decay_epochs)
