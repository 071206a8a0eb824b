"""UnGAN: what the model says of the forget set becomes indistinguishable from what the original says of unseen data.

The paper's letters: G the generator, which is unlearned; Ĝ the original, frozen; D the critic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.checkpoint import Epochs
from ungan_dist.config import AugmentConfig, UnGANConfig
from ungan_dist.critic import critic_rows, critic_weights
from ungan_dist.data import derive_seed, gather
from ungan_dist.kernels import critic_loss, critic_sgd_step, generator_loss, obstacle_of_critic, obstacle_of_options
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.models import trainable_copy
from ungan_dist.streams import Stream
from ungan_dist.train import descend


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


class Draws:
    """Endless batches of every set, each from a shuffled stream of its own, and the mixing coefficients.

    Processes of a world share every batch. Paired losses are computed row by row, on each process's own; the losses
    over all pairs need every row, so their z are gathered, with gradients.
    """

    def __init__(self, request: Request, config: UnGANConfig) -> None:
        sets = {
            "forget": request.forget,
            "forget 2": request.forget,
            "unseen": request.unseen,
            "unseen 2": request.unseen,
            "retain": request.retain,
        }
        for name, indices in sets.items():
            if len(indices) == 0:
                raise ValueError(f"the set behind {name!r} is empty; UnGAN needs forget, unseen and retain examples")
        self._request = request
        self._config = config
        self._batch_size = config.batch_size or request.train.batch_size
        self._augment = request.train.augment if config.augment_adversarial else None
        self._together = config.estimator == "all_pairs"
        self._share = len(range(self._batch_size)[request.world.rows(self._batch_size)])
        self._streams = {
            name: Stream(indices, self._batch_size, seed=derive_seed("ungan", name, request.seed))
            for name, indices in sets.items()
        }
        self._num_epsilons = 0
        self._original_logits: Float[Tensor, "examples classes"] | None = None

    def forget(self, name: str, generator: nn.Module) -> Float[Tensor, "batch features"]:
        """z_f = G(x_f)‖y_f, or z'_f where the name is that of the second stream."""
        epoch, indices = self._next(name)
        logits = generator(self._images(name, epoch, indices, self._augment))
        return self._critic_rows(logits, indices)

    def unseen(self, name: str) -> Float[Tensor, "batch features"]:
        """z_u = Ĝ(x_u)‖y_u."""
        epoch, indices = self._next(name)
        if self._augment is None:
            logits = self._logits_of_unseen()[indices]
        else:
            with torch.no_grad():
                logits = self._request.original(self._images(name, epoch, indices, self._augment))
        return self._critic_rows(logits, indices)

    def retain(self) -> tuple[Float[Tensor, "batch channels height width"], Int[Tensor, " batch"]]:
        """x_r, augmented as the original's training examples were, and y_r."""
        epoch, indices = self._next("retain")
        images = self._images("retain", epoch, indices, self._request.train.augment)
        return images, self._request.data.labels[indices]

    def epsilon(self) -> Float[Tensor, "batch 1"]:
        """ε ~ U(0, 1), one a row or one a batch, from the seed and the number of the step alone."""
        seed = derive_seed("ungan epsilon", self._request.seed, self._num_epsilons)
        self._num_epsilons += 1
        num_draws = self._batch_size if self._config.epsilon_per == "row" else 1
        draw = torch.rand((num_draws, 1), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        table = self._request.data.table
        epsilon = draw.to(table.device, table.dtype).expand(self._batch_size, 1)
        return epsilon if self._together else self._request.world.share(epsilon)

    def part(self, loss: Callable[[], Tensor], *z: Tensor) -> Float[Tensor, ""]:
        """This process's part of an adversarial loss, whose every process knows the whole where rows are gathered."""
        return loss() / self._request.world.size if self._together else self.part_of_rows(loss, *z)

    def part_of_rows(self, loss: Callable[[], Tensor], *outputs: Tensor) -> Float[Tensor, ""]:
        """This process's part of a mean over the batch's rows."""
        return self._request.world.part(loss, self._share, self._batch_size, *outputs)

    def descend(
        self, part: Float[Tensor, ""], optimizer: torch.optim.Optimizer, generator: nn.Module
    ) -> Float[Tensor, ""]:
        """One step on the sum of all processes' parts; returns this one's."""
        world = self._request.world
        return descend(part, optimizer, generator, share=self._share, num_rows=self._batch_size, world=world)

    def state_dict(self) -> dict[str, int]:
        """How many batches of each stream, and how many mixing coefficients, were drawn."""
        return {name: one.num_drawn for name, one in self._streams.items()} | {"epsilons": self._num_epsilons}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Goes on where another one stopped."""
        for name, one in self._streams.items():
            one.skip_to(state[name])
        self._num_epsilons = state["epsilons"]

    def _next(self, name: str) -> tuple[int, Int[Tensor, " share"]]:
        epoch, indices = next(self._streams[name])
        return epoch, self._request.world.share(indices)

    def _critic_rows(
        self, logits: Float[Tensor, "share classes"], indices: Int[Tensor, " share"]
    ) -> Float[Tensor, "rows features"]:
        z = critic_rows(logits, self._request.data.labels[indices], self._config.critic_input)
        return self._request.world.gather(z, self._batch_size) if self._together else z

    def implementation(self, operation: str, critic: list[Tensor]) -> Literal["reference", "fused"]:
        """As the plan resolved it, where the config has a fused form; a unit's id holds both."""
        config = self._config
        if operation == "generator_loss":
            obstacle = obstacle_of_options(estimator=config.estimator)
        else:
            obstacle = obstacle_of_options(
                estimator=config.estimator, surrogate=config.surrogate, penalty_of=config.penalty_of
            )
        if obstacle is not None or obstacle_of_critic(critic) is not None:
            return "reference"
        return self._request.data.implementation(operation)

    def descends_in_one(self, critic: list[Tensor]) -> bool:
        """Whether loss, gradients and the optimizer's step are one operation: no other process adds to the gradient."""
        return self._request.world.size == 1 and self.implementation("critic_sgd_step", critic) == "fused"

    def _images(
        self, name: str, epoch: int, indices: Int[Tensor, " batch"], augment: AugmentConfig | None
    ) -> Float[Tensor, "batch channels height width"]:
        seed = derive_seed("ungan augment", name, self._request.seed)
        return gather(self._request.data, indices, augment=augment, seed=seed, epoch=epoch)

    def _logits_of_unseen(self) -> Float[Tensor, "examples classes"]:
        """Ĝ(x_u), which never changes: asked once, at the examples' own places."""
        if self._original_logits is None:
            request, data = self._request, self._request.data
            logits = data.table.new_full((len(data.labels), data.num_classes), torch.nan)
            with torch.no_grad():
                for indices in request.unseen.split(self._batch_size):
                    own = request.original(gather(data, request.world.share(indices)))
                    logits[indices] = request.world.gather(own, len(indices))
            self._original_logits = logits
        return self._original_logits


def _adam(generator: nn.Module, config: UnGANConfig) -> torch.optim.Adam:
    return torch.optim.Adam(generator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
