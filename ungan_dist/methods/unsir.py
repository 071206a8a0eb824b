"""UNSIR: noise on which the model errs most stands in for the forget set and impairs the model; a repair follows.

Sources: Tarun et al. 2023, *Fast Yet Effective Machine Unlearning* (``class``); the MUFAC benchmark's adaptation to a
forget set of single examples, Choi and Na 2023 (``mufac``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config import UNSIRConfig
from ungan_dist.data import batches, derive_seed, epoch_order, gather, stream
from ungan_dist.method_configs import UNSIRSettings
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.models import trainable_copy
from ungan_dist.train import pass_over


def unsir(request: Request, config: UNSIRConfig) -> Unlearned:
    """Impairs, then repairs.

    As published, the model is in training mode while noise is learnt: it is the mode in which the noise will impair it,
    and batch norms' running statistics see the noise.
    """
    settings = config.settings()
    model = trainable_copy(request.original)
    seed = derive_seed("unsir", request.seed)
    optimizer = _optimizer(model, settings, settings.learning_rate)
    if config.variant == "class":
        kept = _sample_of_each_class(request, config, seed)
        impairing = _impair_by_class(model, optimizer, request, config, kept, seed)
    else:
        kept = request.retain
        impairing = _impair_by_batch(model, optimizer, request, config, seed)
    optimizer = _optimizer(model, settings, settings.repair_learning_rate)
    repairing = [
        pass_over(
            model,
            request.data,
            kept,
            optimizer,
            batch_size=request.train.batch_size,
            seed=derive_seed("repair", seed),
            epoch=epoch,
            augment=request.train.augment,
        )
        for epoch in range(settings.repair_epochs)
    ]
    curves = {"impair cross-entropy": impairing, "repair cross-entropy": repairing}
    return Unlearned(model=model.eval(), curves=curves)


def learn_noise(
    noise: Float[Tensor, "batch channels height width"],
    loss_of: Callable[[Tensor], Tensor],
    *,
    steps: int,
    learning_rate: float,
) -> Float[Tensor, "batch channels height width"]:
    """Noise after so many steps of Adam on its loss; the model behind the loss takes no gradient."""
    noise = noise.clone().requires_grad_()
    optimizer = torch.optim.Adam([noise], lr=learning_rate)
    for _ in range(steps):
        (noise.grad,) = torch.autograd.grad(loss_of(noise), noise)
        optimizer.step()
    return noise.detach()


def _impair_by_batch(
    model: nn.Module, optimizer: torch.optim.Optimizer, request: Request, config: UNSIRConfig, seed: int
) -> list[float]:
    """Each step learns noise against one forget batch and minimises CE(noise) + CE(retain batch)."""
    settings, data, batch_size = config.settings(), request.data, request.train.batch_size
    over_retain = config.impair_pass == "retain"
    passed, cycled = (request.retain, request.forget) if over_retain else (request.forget, request.retain)
    cycled_batches = stream(cycled, batch_size, seed=derive_seed("cycled", seed))
    generator = torch.Generator(data.device).manual_seed(derive_seed("noise", seed))

    def pictures(batch: Int[Tensor, " batch"], epoch: int) -> Float[Tensor, "batch channels height width"]:
        return gather(data, batch, augment=request.train.augment, seed=derive_seed("augment", seed), epoch=epoch)

    curve: list[float] = []
    for epoch in range(settings.impair_epochs):
        losses: list[Tensor] = []
        passed_batches = ((epoch, batch) for batch in batches(passed, batch_size, seed=seed, epoch=epoch))
        for pair in zip(passed_batches, cycled_batches, strict=False):
            (retain_epoch, retain), (forget_epoch, forget) = pair if over_retain else reversed(pair)
            forget = forget[: len(retain)]
            noise = _gaussian(len(forget), request, generator)
            if config.variant == "sample":
                noise_labels = data.labels[forget]
                noise_loss = _against_labels(model, noise_labels)
            else:
                noise_labels = data.labels[retain][: len(forget)]
                noise_loss = _against_outputs(model, pictures(forget, forget_epoch))
            noise = learn_noise(
                noise, noise_loss, steps=settings.noise_steps, learning_rate=settings.noise_learning_rate
            ).clamp(0, 1)
            loss = functional.cross_entropy(model(noise), noise_labels)
            loss = loss + functional.cross_entropy(model(pictures(retain, retain_epoch)), data.labels[retain])
            losses.append(_descend(loss, optimizer))
        curve.append(float(torch.stack(losses).mean()))
    return curve


def _impair_by_class(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    request: Request,
    config: UNSIRConfig,
    kept: Int[Tensor, " kept"],
    seed: int,
) -> list[float]:
    """Learns one batch of noise for each class of the forget set, then passes over its copies and the kept examples."""
    settings, data, batch_size = config.settings(), request.data, request.train.batch_size
    generator = torch.Generator(data.device).manual_seed(derive_seed("noise", seed))
    noise_labels = data.labels[request.forget].unique().repeat_interleave(batch_size)
    noise = torch.cat(
        [
            learn_noise(
                _gaussian(batch_size, request, generator),
                _against_labels(model, labels, penalty=config.noise_penalty),
                steps=settings.noise_steps,
                learning_rate=settings.noise_learning_rate,
            )
            for labels in noise_labels.split(batch_size)
        ]
    )
    num_noise = config.noise_copies * len(noise)
    everything = torch.arange(num_noise + len(kept), device=data.device)
    curve: list[float] = []
    for epoch in range(settings.impair_epochs):
        losses: list[Tensor] = []
        for batch in batches(everything, batch_size, seed=seed, epoch=epoch):
            noisy, real = batch[batch < num_noise] % len(noise), kept[batch[batch >= num_noise] - num_noise]
            pictures = gather(data, real, augment=request.train.augment, seed=derive_seed("augment", seed), epoch=epoch)
            logits = model(torch.cat([noise[noisy], pictures]))
            labels = torch.cat([noise_labels[noisy], data.labels[real]])
            losses.append(_descend(functional.cross_entropy(logits, labels), optimizer))
        curve.append(float(torch.stack(losses).mean()))
    return curve


def _against_labels(
    model: nn.Module, labels: Int[Tensor, " batch"], *, penalty: float = 0.0
) -> Callable[[Tensor], Tensor]:
    """−CE(model(noise), labels) + penalty · mean ‖noise‖²."""
    return lambda noise: (
        penalty * noise.flatten(1).square().sum(1).mean() - functional.cross_entropy(model(noise), labels)
    )


def _against_outputs(
    model: nn.Module, images: Float[Tensor, "batch channels height width"]
) -> Callable[[Tensor], Tensor]:
    """−MSE(model(noise), model(images))."""
    with torch.no_grad():
        outputs = model(images)
    return lambda noise: -functional.mse_loss(model(noise), outputs)


def _sample_of_each_class(request: Request, config: UNSIRConfig, seed: int) -> Int[Tensor, " kept"]:
    """At most so many retain examples of each class, drawn at random."""
    retain, labels = request.retain, request.data.labels[request.retain]
    samples = [
        epoch_order(retain[labels == label], derive_seed("kept", seed), label)[: config.retain_per_class]
        for label in range(request.data.num_classes)
    ]
    return torch.cat(samples)


def _gaussian(
    num_examples: int, request: Request, generator: torch.Generator
) -> Float[Tensor, "batch channels height width"]:
    """N(0, 1) in the shape, type and place of the model's input."""
    _, height, width, channels = request.data.images.shape
    table = request.data.table
    return torch.randn(
        num_examples, channels, height, width, generator=generator, dtype=table.dtype, device=table.device
    )


def _optimizer(model: nn.Module, settings: UNSIRSettings, learning_rate: float) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.SGD
    return kind(model.parameters(), lr=learning_rate)


def _descend(loss: Float[Tensor, ""], optimizer: torch.optim.Optimizer) -> Float[Tensor, ""]:
    """One step; returns the loss before it."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()
