"""UnGAN: what the model says of the forget set becomes indistinguishable from what the original says of unseen data.

The paper's letters: G the generator, which is unlearned; Ĝ the original, frozen; D the critic.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.data.seeds import derive_seed
from ungan_dist.kernels import critic_loss, critic_sgd_step, generator_loss
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.methods.ungan.critic import critic_weights
from ungan_dist.methods.ungan.draws import Draws
from ungan_dist.training.checkpoint import Epochs
from ungan_dist.training.models import trainable_copy


def ungan(request: Request, config: UnGANConfig) -> Unlearned:
    """Algorithm 1.

    Raises:
        ValueError: a set is empty.
    """
    turns = num_turns(request, config)
    draws = Draws(request, config)
    generator = trainable_copy(request.original, like=request.fresh)
    critic = critic_weights(
        request.data.num_classes,
        config.critic_widths,
        seed=derive_seed("ungan critic", request.seed),
        dtype=request.data.table.dtype,
        device=request.data.device,
    )
    of_critic = torch.optim.SGD(critic, lr=config.critic_learning_rate, weight_decay=config.critic_weight_decay)
    of_generator = _adam(generator, config)
    of_fine_tuning = of_generator if config.optimizers == "shared" else _adam(generator, config)

    curves: dict[str, list[float]] = {"critic": [], "generator": [], "fine_tuning": []}
    epochs = Epochs(
        request.checkpoint,
        request.world,
        request.seed,
        generator=generator,
        of_critic=of_critic,
        of_generator=of_generator,
        of_fine_tuning=of_fine_tuning,
        draws=draws,
        curves=curves,
        **{f"critic {place}": weight for place, weight in enumerate(critic)},
    )
    for _ in epochs.of("rounds", turns.rounds):
        generator.train(config.batch_norm == "train")
        critic_losses = [critic_step(critic, generator, draws, of_critic, config) for _ in range(turns.critic)]
        generator_losses = [
            generator_step(critic, generator, draws, of_generator, config) for _ in range(turns.generator)
        ]
        generator.train()
        fine_tuning_losses = [
            fine_tuning_step(generator, request.original, draws, of_fine_tuning, config)
            for _ in range(turns.fine_tuning)
        ]
        for name, losses in zip(curves, (critic_losses, generator_losses, fine_tuning_losses), strict=True):
            curves[name] += [float(request.world.sum(torch.stack(losses).mean()))] if losses else []
    return Unlearned(model=generator.eval(), curves={name: curve for name, curve in curves.items() if curve})


def critic_step(
    critic: list[Tensor], generator: nn.Module, draws: Draws, optimizer: torch.optim.Optimizer, config: UnGANConfig
) -> Float[Tensor, ""]:
    """Algorithm 2: D tells the outputs apart a little better; G takes no gradient. Returns the loss before the step."""
    z_unseen = draws.unseen("unseen")
    with torch.no_grad():
        z_forget, z_forget2 = (draws.forget(name, generator) for name in ("forget", "forget 2"))
    epsilon = draws.epsilon()
    if draws.descends_in_one(critic):
        return critic_sgd_step(
            critic,
            z_unseen,
            z_forget,
            z_forget2,
            epsilon,
            learning_rate=config.critic_learning_rate,
            weight_decay=config.critic_weight_decay,
            penalty=config.penalty,
            penalty_of=config.penalty_of,
            penalty_weight=config.penalty_weight,
            mix_labels=config.mix_labels,
            impl="fused",
        )
    z_unseen2 = draws.unseen("unseen 2") if config.surrogate == "energy" else None
    loss = draws.part(
        lambda: critic_loss(
            critic,
            z_unseen,
            z_forget,
            z_forget2,
            epsilon,
            penalty=config.penalty,
            penalty_of=config.penalty_of,
            penalty_weight=config.penalty_weight,
            estimator=config.estimator,
            surrogate=config.surrogate,
            z_unseen2=z_unseen2,
            mix_labels=config.mix_labels,
            impl=draws.implementation("critic_loss", critic),
        ),
        z_forget,
    )
    return draws.descend(loss, optimizer, generator)


def generator_step(
    critic: list[Tensor], generator: nn.Module, draws: Draws, optimizer: torch.optim.Optimizer, config: UnGANConfig
) -> Float[Tensor, ""]:
    """Algorithm 3: G moves its outputs on the forget set towards unseen ones; D is frozen."""
    frozen = [weight.detach() for weight in critic]
    z_unseen = draws.unseen("unseen")
    z_forget, z_forget2 = (draws.forget(name, generator) for name in ("forget", "forget 2"))
    loss = draws.part(
        lambda: generator_loss(
            frozen,
            z_unseen,
            z_forget,
            z_forget2,
            estimator=config.estimator,
            surrogate=config.surrogate,
            impl=draws.implementation("generator_loss", frozen),
        ),
        z_forget,
        z_forget2,
    )
    return draws.descend(loss, optimizer, generator)


def fine_tuning_step(
    generator: nn.Module, original: nn.Module, draws: Draws, optimizer: torch.optim.Optimizer, config: UnGANConfig
) -> Float[Tensor, ""]:
    """Algorithm 4: G keeps its accuracy on the retain set and stays near Ĝ there."""
    images, labels = draws.retain()
    with torch.no_grad():
        teacher = original(images).log_softmax(1)
    logits = generator(images)
    student = logits.log_softmax(1)
    # kl_div(a, b) is KL(b ‖ a): the distribution that weighs the logarithms comes second.
    towards, weighing = (teacher, student) if config.kl_direction == "student_first" else (student, teacher)

    def loss_of_rows() -> Tensor:
        divergence = functional.kl_div(towards, weighing, reduction="batchmean", log_target=True)
        return config.alpha * functional.cross_entropy(logits, labels) + config.gamma * divergence

    return draws.descend(draws.part_of_rows(loss_of_rows, logits), optimizer, generator)


class Turns(NamedTuple):
    """How often each loop runs."""

    rounds: int
    critic: int
    generator: int
    fine_tuning: int


def num_turns(request: Request, config: UnGANConfig) -> Turns:
    """N_e, T_d, T_g and T_f; a loop set to 0 stays out even where bounds are inclusive: the controls rest on it."""
    batch_size = config.batch_size or request.train.batch_size
    return turns_of(config, num_retain=len(request.retain), num_forget=len(request.forget), batch_size=batch_size)


def turns_of(config: UnGANConfig, *, num_retain: int, num_forget: int, batch_size: int) -> Turns:
    """:func:`num_turns` for sets of given sizes."""
    adversarial = max(1, num_forget // batch_size)
    steps = (
        config.epochs,
        adversarial if config.critic_steps is None else config.critic_steps,
        adversarial if config.generator_steps is None else config.generator_steps,
        math.ceil((num_retain + num_forget) / batch_size) if config.finetune_steps is None else config.finetune_steps,
    )
    return Turns(*(count + 1 if config.inclusive_loops and count else count for count in steps))


def _adam(generator: nn.Module, config: UnGANConfig) -> torch.optim.Adam:
    return torch.optim.Adam(generator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
