"""UnGAN: make the model's outputs on the forget set indistinguishable from the original's on unseen examples.

The paper's letters: G is the generator, the model to unlearn; Ĝ is the frozen original; D is the critic.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.data.rows import Rows
from ungan_dist.data.seeds import derive_seed
from ungan_dist.kernels import critic_loss, critic_sgd_step, generator_loss
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.methods.ungan.critic_network import init_critic
from ungan_dist.methods.ungan.sampler import Sampler
from ungan_dist.methods.ungan.sets import count_batches
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.optimizers import make_optimizer


def ungan(request: Request, config: UnGANConfig) -> Unlearned:
    """Algorithm 1.

    Raises:
        ValueError: the forget, unseen or retain set is empty.
    """
    num_steps = count_steps(request, config)
    sampler = Sampler(request, config)
    generator = request.copy_original()
    critic = init_critic(
        request.data.num_classes,
        config.critic_widths,
        seed=derive_seed("ungan critic", request.seed),
        dtype=request.data.table.dtype,
        device=request.data.device,
    )
    critic_optimizer = make_optimizer(
        torch.optim.SGD, critic, lr=config.critic_learning_rate, weight_decay=config.critic_weight_decay
    )
    generator_optimizer = _adam(generator, config)
    fine_tuning_optimizer = generator_optimizer if config.optimizers == "shared" else _adam(generator, config)

    curves: dict[str, list[float]] = {"critic": [], "generator": [], "fine_tuning": []}
    epochs = request.epochs(
        generator=generator,
        of_critic=critic_optimizer,
        of_generator=generator_optimizer,
        of_fine_tuning=fine_tuning_optimizer,
        draws=sampler,
        curves=curves,
        **{f"critic {place}": weight for place, weight in enumerate(critic)},
    )
    for _ in epochs.iterate("rounds", num_steps.rounds):
        request.prepare(critic_optimizer, generator_optimizer, fine_tuning_optimizer)
        generator.train(config.batch_norm == "train")
        critic_losses = [
            critic_step(critic, generator, sampler, critic_optimizer, config) for _ in range(num_steps.critic)
        ]
        generator_losses = [
            generator_step(critic, generator, sampler, generator_optimizer) for _ in range(num_steps.generator)
        ]
        generator.train()
        fine_tuning_losses = [
            fine_tuning_step(generator, request.original, sampler, fine_tuning_optimizer, config)
            for _ in range(num_steps.fine_tuning)
        ]
        for name, losses in zip(curves, (critic_losses, generator_losses, fine_tuning_losses), strict=True):
            curves[name] += [float(request.world.sum(torch.stack(losses).mean()))] if losses else []
    return Unlearned(model=generator.eval(), curves={name: curve for name, curve in curves.items() if curve})


def critic_step(
    critic: list[Tensor], generator: nn.Module, sampler: Sampler, optimizer: torch.optim.Optimizer, config: UnGANConfig
) -> Float[Tensor, ""]:
    """Algorithm 2: one SGD step of D; G takes no gradient. Return this process's part of the loss before the step."""

    def step(unseen: Rows, forget: Rows, forget2: Rows, epsilon: Tensor, *unseen2: Rows) -> Float[Tensor, ""]:
        z_unseen = sampler.embed_unseen(unseen)
        with torch.no_grad():
            z_forget, z_forget2 = sampler.embed_forget(generator, forget, forget2)
        if sampler.can_fuse_step(critic):
            return critic_sgd_step(
                critic,
                z_unseen,
                z_forget,
                z_forget2,
                epsilon,
                sampler.options,
                learning_rate=config.critic_learning_rate,
                weight_decay=config.critic_weight_decay,
                impl="fused",
            )
        (z_unseen2,) = [sampler.embed_unseen(rows) for rows in unseen2] or [None]
        loss = sampler.partial_loss(
            lambda: critic_loss(
                critic,
                z_unseen,
                z_forget,
                z_forget2,
                epsilon,
                sampler.options,
                z_unseen2=z_unseen2,
                impl=sampler.implementation("critic_loss", critic),
            ),
            z_forget,
        )
        return sampler.take_step(loss, optimizer, generator)

    needs_unseen2 = config.surrogate == "energy" and not sampler.can_fuse_step(critic)
    drawn = sampler.draw("unseen", "forget", "forget 2")
    more = sampler.draw("unseen 2") if needs_unseen2 else []
    return sampler.run("critic", step, *drawn, sampler.sample_epsilon(), *more)


def generator_step(
    critic: list[Tensor], generator: nn.Module, sampler: Sampler, optimizer: torch.optim.Optimizer
) -> Float[Tensor, ""]:
    """Algorithm 3: move the outputs of G on the forget set towards those on unseen examples; D is frozen."""
    frozen = [weight.detach() for weight in critic]

    def step(unseen: Rows, forget: Rows, forget2: Rows) -> Float[Tensor, ""]:
        z_unseen = sampler.embed_unseen(unseen)
        z_forget, z_forget2 = sampler.embed_forget(generator, forget, forget2)
        loss = sampler.partial_loss(
            lambda: generator_loss(
                frozen,
                z_unseen,
                z_forget,
                z_forget2,
                sampler.options,
                impl=sampler.implementation("generator_loss", frozen),
            ),
            z_forget,
            z_forget2,
        )
        return sampler.take_step(loss, optimizer, generator)

    return sampler.run("generator", step, *sampler.draw("unseen", "forget", "forget 2"))


def fine_tuning_step(
    generator: nn.Module, original: nn.Module, sampler: Sampler, optimizer: torch.optim.Optimizer, config: UnGANConfig
) -> Float[Tensor, ""]:
    """Algorithm 4: keep the accuracy of G on the retain set, and its outputs near those of Ĝ."""

    def step(rows: Rows) -> Float[Tensor, ""]:
        images, labels = sampler.read_retain(rows)
        with torch.no_grad():
            teacher = forward(original, images).log_softmax(1)
        logits = sampler.evaluate(generator, images)
        student = logits.log_softmax(1)
        # kl_div(a, b) computes KL(b ‖ a)
        second, first = (teacher, student) if config.kl_direction == "student_first" else (student, teacher)

        def row_loss() -> Tensor:
            divergence = functional.kl_div(second, first, reduction="batchmean", log_target=True)
            return config.alpha * functional.cross_entropy(logits, labels) + config.gamma * divergence

        return sampler.take_step(sampler.partial_row_loss(row_loss, logits), optimizer, generator)

    return sampler.run("fine-tuning", step, *sampler.draw("retain"))


class StepCounts(NamedTuple):
    """Number of rounds, and of steps of each kind per round."""

    rounds: int
    critic: int
    generator: int
    fine_tuning: int


def count_steps(request: Request, config: UnGANConfig) -> StepCounts:
    """Return N_e, T_d, T_g and T_f.

    Inclusive bounds add one iteration to each loop but those set to 0: the controls rely on that.
    """
    batch_size = config.batch_size or request.train.batch_size
    adversarial = max(1, len(request.forget) // batch_size)
    counts = (
        config.epochs,
        adversarial if config.critic_steps is None else config.critic_steps,
        adversarial if config.generator_steps is None else config.generator_steps,
        count_batches(request, batch_size) if config.finetune_steps is None else config.finetune_steps,
    )
    return StepCounts(*(count + 1 if config.inclusive_loops and count else count for count in counts))


def _adam(generator: nn.Module, config: UnGANConfig) -> torch.optim.Adam:
    return make_optimizer(
        torch.optim.Adam, generator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
