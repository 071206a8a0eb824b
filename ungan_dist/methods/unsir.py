"""UNSIR: impair the model with noise that maximises its error, in place of the forget set; then repair it.

Sources: Tarun et al. 2023, *Fast Yet Effective Machine Unlearning* (``class``); the MUFAC benchmark's adaptation to a
forget set of single examples, Choi and Na 2023 (``mufac``).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.methods.unsir import UNSIRConfig, UNSIRSettings
from ungan_dist.data.examples import draw, draw_pass, gather_rows, shuffle_set
from ungan_dist.data.rows import ImageTransform, Rows, shuffle, split_pass, upload
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.training.batch_norm import forward, local_statistics
from ungan_dist.training.batch_stream import BatchStream
from ungan_dist.training.optimizers import make_optimizer
from ungan_dist.training.train import take_step
from ungan_dist.training.world import World


def unsir(request: Request, config: UNSIRConfig) -> Unlearned:
    """Impair, then repair.

    As published, the model is in training mode while noise is learnt. The noise will impair it in the same mode, and
    the running statistics of batch norms include the noise.
    """
    settings = config.settings()
    model = request.copy_original().train(not config.eval_mode)
    impairing: list[float] = []
    repairing: list[float] = []
    seeded = dataclasses.replace(request, seed=derive_seed("unsir", request.seed))
    by_class = config.variant == "class"
    kept = _sample_each_class(seeded, config) if by_class else request.retain
    state = _State(model, seeded, config)
    optimizer = _optimizer(model, settings, settings.repair_learning_rate)
    epochs = request.epochs(
        model=model,
        impairing_optimizer=state.optimizer,
        optimizer=optimizer,
        generator=state.generator,
        cycled=state.cycled,
        noise=state.noise,
        impairing=impairing,
        repairing=repairing,
    )
    if by_class:
        for _ in epochs.iterate("noise", 1):
            _learn_class_noise(state)
    for epoch in epochs.iterate("impair", settings.impair_epochs):
        loss = _impair_by_class(state, kept, epoch) if by_class else _impair_by_batch(state, epoch)
        impairing.append(loss)
    for epoch in epochs.iterate("repair", settings.repair_epochs):
        loss = seeded.train_pass(model, kept, optimizer, epoch=epoch, purpose="repair")
        repairing.append(loss)
    curves = {"impair cross-entropy": impairing, "repair cross-entropy": repairing}
    return Unlearned(model=model.eval(), curves=curves)


BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's defaults."""


class _State:
    """State of the impair phase."""

    def __init__(self, model: nn.Module, request: Request, config: UNSIRConfig) -> None:
        self.model, self.request, self.config, self.seed = model, request, config, request.seed
        self.settings = config.settings()
        self.optimizer = _optimizer(model, self.settings, self.settings.learning_rate)
        self.generator = torch.Generator(request.data.device).manual_seed(derive_seed("noise", self.seed))
        cycled = request.forget if config.impair_pass == "retain" else request.retain
        self.cycled = BatchStream(
            request.data,
            cycled,
            request.train.batch_size,
            seed=derive_seed("cycled", self.seed),
            augment=request.train.augment,
            augment_seed=derive_seed("augment", self.seed),
        )
        labels = request.data.labels[request.forget if config.variant == "class" else request.forget[:0]].cpu()
        self.noise_labels = labels.unique().repeat_interleave(request.train.batch_size).to(request.data.device)
        """class: labels of the noise, one batch per class of the forget set."""
        self.noise = request.data.table.new_zeros(_shape(len(self.noise_labels), request))
        """class: the noise, zero until it is learnt."""

    def load_images(self, rows: Rows) -> Float[Tensor, "share channels ..."]:
        return gather_rows(self.request.data, rows)


def learn_noise(
    noise: Float[Tensor, "batch channels ..."],
    noise_loss: Callable[[Tensor], Tensor],
    *,
    steps: int,
    learning_rate: float,
) -> Float[Tensor, "batch channels ..."]:
    """Optimise noise with Adam, as ``torch.optim.Adam`` does by default; the model takes no gradient.

    Torch's own reads the number of its step on the host, so that a captured step could not contain it.

    Each process learns its own rows. Its loss is its part of the global mean, and no gradient is summed.
    """
    noise = noise.clone().requires_grad_()
    mean, square = torch.zeros_like(noise), torch.zeros_like(noise)
    for step in range(1, steps + 1):
        (gradient,) = torch.autograd.grad(noise_loss(noise), noise)
        with torch.no_grad():
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            scale = square.sqrt().div_((1 - BETAS[1] ** step) ** 0.5).add_(EPSILON)
            noise.addcdiv_(mean, scale, value=-(learning_rate / (1 - BETAS[0] ** step)))
    return noise.detach()


def _impair_by_batch(state: _State, epoch: int) -> float:
    """In each step, learn noise against one forget batch, then minimise CE(noise) + CE(retain batch)."""
    model, request, settings = state.model, state.request, state.settings
    data, world = request.data, request.world
    over_retain = state.config.impair_pass == "retain"
    passed = request.retain if over_retain else request.forget

    def step(retain: Rows, forget: Rows, noise: Tensor) -> Float[Tensor, ""]:
        rows = _GlobalBatch(world, len(forget))
        if state.config.variant == "sample":
            noise_labels = world.share(data.labels[forget.indices])
            noise_loss = _against_labels(model, noise_labels, rows)
        else:
            noise_labels = world.share(data.labels[retain.indices[: len(forget)]])
            noise_loss = _against_outputs(model, state.load_images(world.share(forget)), rows)
        noise = learn_noise(
            noise, noise_loss, steps=settings.noise_steps, learning_rate=settings.noise_learning_rate
        ).clamp(0, 1)
        loss = rows.cross_entropy(rows.evaluate(model, noise), noise_labels)
        retain_rows, retain_share = _GlobalBatch(world, len(retain)), world.share(retain)
        loss = loss + retain_rows.cross_entropy(
            retain_rows.evaluate(model, state.load_images(retain_share)), data.labels[retain_share.indices]
        )
        share, num_rows = len(noise) + len(retain_share), len(forget) + len(retain)
        return take_step(loss, state.optimizer, model, share=share, num_rows=num_rows, world=world)

    losses: list[Tensor] = []
    drawn = draw_pass(data, passed, seed=state.seed, epoch=epoch, augment=request.train.augment)
    passed_batches = (drawn[batch] for batch in split_pass(len(drawn), request.train.batch_size))
    request.prepare(state.optimizer)
    for pair in zip(passed_batches, _other_batches(state, epoch), strict=False):
        retain, forget = pair if over_retain else reversed(pair)
        forget = forget[: len(retain)]
        noise = world.share(_draw_gaussian(len(forget), request, state.generator))
        # one example takes another way through batch norm, which depends on the model
        is_one = 1 in (len(retain), len(forget))
        losses.append(
            step(retain, forget, noise) if is_one else request.take_step("impair", step, retain, forget, noise)
        )
    return float(world.sum(torch.stack(losses).mean()))


def _other_batches(state: _State, epoch: int) -> Iterable[Rows]:
    """Return the batches of the set that is cycled; MUFAC's notebook passes over it once."""
    if not state.config.eval_mode:
        return state.cycled
    request = state.request
    other = request.forget if state.config.impair_pass == "retain" else request.retain
    seed = derive_seed("cycled", state.seed)
    drawn = draw_pass(request.data, other, seed=seed, epoch=epoch, augment=request.train.augment)
    return (drawn[batch] for batch in split_pass(len(drawn), request.train.batch_size))


def _learn_class_noise(state: _State) -> None:
    """Learn one batch of noise for each class of the forget set."""
    settings, request, world = state.settings, state.request, state.request.world
    num_rows = request.train.batch_size
    rows = _GlobalBatch(world, num_rows)

    def learn(noise: Tensor, labels: Tensor) -> Tensor:
        return learn_noise(
            noise,
            _against_labels(state.model, labels, rows, penalty=state.config.noise_penalty),
            steps=settings.noise_steps,
            learning_rate=settings.noise_learning_rate,
        )

    learnt: list[Tensor] = []
    for labels in state.noise_labels.split(num_rows):
        noise = world.share(_draw_gaussian(num_rows, request, state.generator))
        learnt.append(world.gather(request.take_step("learn noise", learn, noise, world.share(labels)), num_rows))
    state.noise.copy_(torch.cat(learnt))
    # each process's rows have moved its own running statistics, but only one process writes the checkpoint
    own = world.row_slice(num_rows)
    world.reduce([], share=own.stop - own.start, num_rows=num_rows, statistics=local_statistics(state.model))


def _impair_by_class(state: _State, kept: Int[Tensor, " kept"], epoch: int) -> float:
    """Run one pass over copies of the class noise and the kept examples."""
    request, noise = state.request, state.noise
    data, world = request.data, request.world
    num_noise = state.config.noise_copies * len(noise)
    order = shuffle(num_noise + len(kept), derive_seed("order", state.seed, epoch))
    batches = [order[batch] for batch in split_pass(len(order), request.train.batch_size)]
    shares = [batch[world.row_slice(len(batch))] for batch in batches]
    # noise comes first in a share; a row of noise reads any image too, so that equal batches take equal steps
    places = np.concatenate([share[np.argsort(share >= num_noise, kind="stable")] for share in shares])
    is_noise = places < num_noise
    images = kept.cpu().numpy()[np.where(is_noise, 0, places - num_noise)]
    view = ImageTransform(augment=request.train.augment, seed=derive_seed("augment", state.seed), epoch=epoch)
    all_rows = draw(data, images, view)
    all_places = upload(np.where(is_noise, places % len(noise), -1), data.device)

    def step(num_rows: int, rows: Rows, places: Tensor) -> Float[Tensor, ""]:
        whole, is_noise, places = _GlobalBatch(world, num_rows), places >= 0, places.clamp(min=0)
        images = torch.where(is_noise[:, None, None, None], noise[places], state.load_images(rows))
        labels = torch.where(is_noise, state.noise_labels[places], data.labels[rows.indices])
        loss = whole.cross_entropy(whole.evaluate(state.model, images), labels)
        return take_step(loss, state.optimizer, state.model, share=len(rows), num_rows=num_rows, world=world)

    losses: list[Tensor] = []
    request.prepare(state.optimizer)
    stop = 0
    for batch, share in zip(batches, shares, strict=True):
        own = slice(stop, stop := stop + len(share))
        step_of_batch = functools.partial(step, len(batch))
        # one example takes another way through batch norm, which depends on the model
        take = step_of_batch if len(batch) == 1 else functools.partial(request.take_step, "impair", step_of_batch)
        losses.append(take(all_rows[own], all_places[own]))
    return float(world.sum(torch.stack(losses).mean()))


@dataclass(frozen=True)
class _GlobalBatch:
    """One global batch; computes this process's part of means over it."""

    world: World
    num_rows: int

    def evaluate(self, model: nn.Module, images: Tensor) -> Float[Tensor, "share classes"]:
        return forward(model, images, num_rows=self.num_rows)

    def partial_mean(self, loss: Callable[[], Tensor], outputs: Tensor) -> Float[Tensor, ""]:
        return self.world.partial_loss(loss, len(outputs), self.num_rows, outputs)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Float[Tensor, ""]:
        return self.partial_mean(lambda: functional.cross_entropy(logits, labels), logits)


def _against_labels(
    model: nn.Module, labels: Int[Tensor, " share"], rows: _GlobalBatch, *, penalty: float = 0.0
) -> Callable[[Tensor], Tensor]:
    """Return the loss −CE(model(noise), labels) + penalty · mean ‖noise‖²."""

    def noise_loss(noise: Tensor) -> Tensor:
        logits = rows.evaluate(model, noise)
        return rows.partial_mean(
            lambda: penalty * noise.flatten(1).square().sum(1).mean() - functional.cross_entropy(logits, labels),
            logits,
        )

    return noise_loss


def _against_outputs(
    model: nn.Module, images: Float[Tensor, "share channels ..."], rows: _GlobalBatch
) -> Callable[[Tensor], Tensor]:
    """Return the loss −MSE(model(noise), model(images))."""
    with torch.no_grad():
        outputs = rows.evaluate(model, images)

    def noise_loss(noise: Tensor) -> Tensor:
        logits = rows.evaluate(model, noise)
        return rows.partial_mean(lambda: -functional.mse_loss(logits, outputs), logits)

    return noise_loss


def _sample_each_class(request: Request, config: UNSIRConfig) -> Int[Tensor, " kept"]:
    """Draw at most ``retain_per_class`` retain examples of each class."""
    retain, labels = request.retain.cpu(), request.data.labels[request.retain].cpu()
    samples = [
        shuffle_set(retain[labels == label], derive_seed("kept", request.seed), label)[: config.retain_per_class]
        for label in range(request.data.num_classes)
    ]
    return torch.cat(samples).to(request.data.device)


def _draw_gaussian(
    num_examples: int, request: Request, generator: torch.Generator
) -> Float[Tensor, "batch channels ..."]:
    """Draw N(0, 1) with the shape, type and device of the model's input."""
    table = request.data.table
    return torch.randn(_shape(num_examples, request), generator=generator, dtype=table.dtype, device=table.device)


def _shape(num_examples: int, request: Request) -> tuple[int, ...]:
    return num_examples, *request.data.input_shape


def _optimizer(model: nn.Module, settings: UNSIRSettings, learning_rate: float) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.SGD
    return make_optimizer(kind, model.parameters(), lr=learning_rate)
