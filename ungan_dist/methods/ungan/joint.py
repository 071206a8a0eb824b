"""Joint UnGAN: forget and keep in one step, with one forward pass over retain and forget examples."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ungan_dist.config.methods import UnGANJointConfig
from ungan_dist.data.examples import gather, gather_rows
from ungan_dist.data.rows import ImageTransform, Rows, upload
from ungan_dist.data.seeds import derive_seed
from ungan_dist.kernels import CriticOptions, critic_loss, energy_distance_1d, generator_loss, log_odds
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.methods.ungan.critic_network import init_critic, one_hot
from ungan_dist.methods.ungan.sets import count_batches, refuse_empty_sets
from ungan_dist.methods.ungan.views import MakeViews, as_it_is, assign_quantiles, make_views
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.batch_stream import BatchStream
from ungan_dist.training.optimizers import make_optimizer
from ungan_dist.training.schedules import cosine_annealing
from ungan_dist.training.train import take_step


def ungan_joint(request: Request, config: UnGANJointConfig) -> Unlearned:
    """Move the log-odds of the forget set towards the original's on unseen examples, and keep the retain set, at once.

    Raises:
        ValueError: the forget, unseen or retain set is empty.
    """
    step = _JointStep(request, config)
    num_steps = config.steps or count_batches(request, step.batch_size)
    curves: dict[str, list[float]] = {"distance": [], "pairing": [], "fine_tuning": []}
    epochs = request.epochs(curves=curves, **step.state)
    for epoch in epochs.iterate("epochs", config.epochs):
        step.generator.train()
        numbers = range(epoch * num_steps, (epoch + 1) * num_steps)
        losses = torch.stack([step.take(number, config.epochs * num_steps) for number in numbers])
        means = request.world.sum(losses.mean(0)).tolist()
        for name, mean in zip(curves, means, strict=True):
            curves[name].append(mean)
    return Unlearned(model=step.generator.eval(), curves=curves)


class _JointStep:
    """The state of a training, and its step. Processes share each batch; a distance needs every row of it."""

    def __init__(self, request: Request, config: UnGANJointConfig) -> None:
        refuse_empty_sets(request)
        self._request, self._config = request, config
        self.batch_size = config.batch_size or request.train.batch_size
        self._num_forget = min(len(request.forget), config.forget_batch_size or self.batch_size)
        self.generator = request.copy_original()
        self._learning_rate = config.learning_rate or request.train.learning_rate / 2
        self._optimizer = make_optimizer(
            torch.optim.SGD,
            self.generator.parameters(),
            lr=self._learning_rate,
            momentum=request.train.momentum,
            weight_decay=config.weight_decay,
        )
        self._streams = {
            name: BatchStream(
                request.data,
                indices,
                size,
                seed=derive_seed("ungan joint", name, request.seed),
                augment=augment,
                augment_seed=derive_seed("ungan joint augment", request.seed),
            )
            for name, indices, size, augment in (
                ("retain", request.retain, self.batch_size, request.train.augment),
                ("forget", request.forget, self._num_forget, None),
            )
        }
        self._unseen = self._log_odds(request.unseen)[0], request.data.labels[request.unseen]
        self._targets = self._make_targets() if config.pairing else None
        is_augmented = ImageTransform(augment=request.train.augment).is_random
        self._teacher = None if is_augmented else self._by_example(request.retain, self._logits(request.retain)[0])
        self._is_seen = functional.one_hot(self._unseen[1], request.data.num_classes).sum(0) > 0
        # read once: a step must not wait for the device
        self._all_are_seen = bool(self._is_seen.all())
        self._critic = _Critic(request, config, self._unseen) if config.distance == "critic" else None

    @property
    def state(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        critic = {} if self._critic is None else self._critic.state
        return {"generator": self.generator, "optimizer": self._optimizer, **self._streams, **critic}

    def take(self, number: int, num_steps: int) -> Float[Tensor, " losses"]:
        """Take one step of all, and return this process's parts of distance, pairing and fine-tuning loss."""
        self._optimizer.param_groups[0]["lr"] = cosine_annealing(self._learning_rate, number, num_steps)
        self._request.prepare(self._optimizer, *([] if self._critic is None else [self._critic.optimizer]))
        batches = [next(self._streams[name]) for name in ("retain", "forget")]
        draws = [] if self._critic is None else self._critic.draw(self._num_forget)
        return self._request.take_step((self, "joint"), self._step, *batches, *draws)

    def _step(self, retain: Rows, forget: Rows, *draws: Tensor) -> Float[Tensor, " losses"]:
        request, config, world = self._request, self._config, self._request.world
        num_rows = len(retain) + len(forget)
        indices = forget.indices  # of all rows: a distance needs every one
        labels = request.data.labels[indices]
        retain, forget = world.share(retain), world.share(forget)
        images = gather_rows(request.data, retain)
        outputs = forward(self.generator, torch.cat([images, gather_rows(request.data, forget)]), num_rows=num_rows)
        logits, forget_logits = outputs.split([len(retain), len(forget)])
        labels_of_retain = request.data.labels[retain.indices]
        with torch.no_grad():
            known = self._teacher
            teacher = (forward(request.original, images) if known is None else known[retain.indices]).log_softmax(1)

        def fine_tuning() -> Tensor:
            divergence = functional.kl_div(teacher, logits.log_softmax(1), reduction="batchmean", log_target=True)
            return config.alpha * functional.cross_entropy(logits, labels_of_retain) + (config.gamma * divergence)

        keep = world.partial_loss(fine_tuning, len(retain), self.batch_size, logits)
        everyone = world.gather(forget_logits, self._num_forget)
        odds = log_odds(everyone[None], labels, impl="reference")[0]
        apart = self._distance(odds, labels, draws) / world.size if config.beta else torch.zeros_like(keep)
        targets = self._targets
        pairing = torch.zeros_like(keep) if targets is None else (odds - targets[indices]).abs().mean() / world.size
        loss = keep + config.beta * apart + config.pairing * pairing
        take_step(
            loss, self._optimizer, self.generator, share=len(retain) + len(forget), num_rows=num_rows, world=world
        )
        return torch.stack([apart.detach(), pairing.detach(), keep.detach()])

    def _distance(
        self, forget: Float[Tensor, " forget"], labels: Int[Tensor, " forget"], draws: Sequence[Tensor]
    ) -> Float[Tensor, ""]:
        if self._critic is not None:
            return self._critic.distance(forget, labels, draws)
        unseen, labels_of_unseen = self._unseen
        impl = self._request.data.implementation("energy_distance_1d")
        distance = functools.partial(energy_distance_1d, impl=impl)
        if self._config.within == "all":
            return distance(forget, unseen)[0]
        num_classes = self._request.data.num_classes
        shares = one_hot(labels, num_classes, forget.dtype).mean(0)
        distances = distance(forget, unseen, labels, labels_of_unseen, num_groups=num_classes)
        # a class without unseen examples is compared with the unseen examples of all classes
        total = (shares * distances).sum()
        if self._all_are_seen:
            return total
        # in group 1, which all unseen examples are in; group 0 has none of them
        rest = (~self._is_seen[labels]).long()
        everyone = torch.ones_like(labels_of_unseen)
        return total + rest.to(shares).mean() * distance(forget, unseen, rest, everyone, num_groups=2)[1]

    def _make_targets(self) -> Float[Tensor, " examples"]:
        """Assign each forget example one of the unseen log-odds, in the order of its views' mean log-odds.

        Features have no moved copies, so that the order is that of their own log-odds.
        """
        request = self._request
        views = as_it_is if request.data.has_features else make_views
        estimates = self._log_odds(request.forget, views).mean(0)
        return self._by_example(request.forget, assign_quantiles(estimates, self._unseen[0]))

    def _by_example(self, indices: Int[Tensor, " set"], values: Float[Tensor, "*of_set"]) -> Float[Tensor, "*of_all"]:
        """Place the values of a set at the indices of its examples."""
        table = values.new_zeros(len(self._request.data.labels), *values.shape[1:])
        table[indices] = values
        return table

    def _log_odds(self, indices: Int[Tensor, " set"], make_views: MakeViews = as_it_is) -> Float[Tensor, "views set"]:
        """Return the original's log-odds of a set, for each view of its images."""
        return log_odds(self._logits(indices, make_views), self._request.data.labels[indices], impl="reference")

    def _logits(
        self, indices: Int[Tensor, " set"], make_views: MakeViews = as_it_is
    ) -> Float[Tensor, "views set classes"]:
        request, world = self._request, self._request.world
        parts: list[Tensor] = []
        with torch.no_grad():
            for batch in indices.split(self.batch_size):
                views = make_views(gather(request.data, world.share(batch)))
                shown = [world.gather(forward(request.original, images), len(batch)) for images in views]
                parts.append(torch.stack(shown))
        return torch.cat(parts, dim=1)


class _Critic:
    """A critic that sees each example's log-odds in the column of its class, beside the one-hot label.

    It is small, so every process computes all of it from the gathered rows; their weights keep the same bits.
    """

    def __init__(
        self,
        request: Request,
        config: UnGANJointConfig,
        unseen: tuple[Float[Tensor, " unseen"], Int[Tensor, " unseen"]],
    ) -> None:
        self._config, self._num_classes = config, request.data.num_classes
        self._options = CriticOptions(penalty_weight=config.penalty_weight)
        self._z_unseen = self._input(*unseen)
        table = request.data.table
        self._weights = init_critic(
            self._num_classes,
            config.critic_widths,
            seed=derive_seed("ungan joint critic", request.seed),
            dtype=table.dtype,
            device=table.device,
        )
        self.optimizer = make_optimizer(torch.optim.Adam, self._weights, lr=config.critic_learning_rate)
        self._generator = torch.Generator().manual_seed(derive_seed("ungan joint critic draws", request.seed))
        self._num_steps = torch.zeros((), dtype=torch.int64)

    @property
    def state(self) -> dict[str, object]:
        weights: dict[str, object] = {f"critic {place}": weight for place, weight in enumerate(self._weights)}
        return weights | {"of_critic": self.optimizer, "draws": self._generator, "critic_steps": self._num_steps}

    def draw(self, number: int) -> list[Tensor]:
        """Draw what the next call of ``distance`` needs for a number of forget examples, and upload it.

        Returns:
            ε, unseen rows and a permutation for each step of the critic, then rows and a permutation for its loss.
        """
        steps = self._config.critic_steps if int(self._num_steps) else self._config.critic_pretraining
        self._num_steps += 1
        dtype = self._z_unseen.dtype
        drawn: list[Tensor] = []
        for _ in range(steps):
            drawn.append(torch.rand((number, 1), generator=self._generator, dtype=torch.float64).to(dtype))
            drawn += self._draw_pairs(number)
        drawn += self._draw_pairs(number)
        return [upload(one.numpy(), self._z_unseen.device) for one in drawn]

    def distance(
        self, forget: Float[Tensor, " forget"], labels: Int[Tensor, " forget"], draws: Sequence[Tensor]
    ) -> Float[Tensor, ""]:
        """Train the critic on these outputs, then return the generator's loss under it."""
        z_forget = self._input(forget, labels)
        *of_steps, rows, permutation = draws
        for epsilon, *pairs in zip(of_steps[::3], of_steps[1::3], of_steps[2::3], strict=True):
            self._train(z_forget.detach(), epsilon, *pairs)
        frozen = [weight.detach() for weight in self._weights]
        unseen = self._z_unseen[rows]
        return generator_loss(frozen, unseen, z_forget, z_forget[permutation], self._options, impl="reference")

    def _train(self, z_forget: Float[Tensor, "forget z"], epsilon: Tensor, rows: Tensor, permutation: Tensor) -> None:
        unseen, other = self._z_unseen[rows], z_forget[permutation]
        loss = critic_loss(self._weights, unseen, z_forget, other, epsilon, self._options, impl="reference")
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _draw_pairs(self, number: int) -> list[Tensor]:
        """Draw unseen rows and a permutation of the forget examples."""
        rows = torch.randint(len(self._z_unseen), (number,), generator=self._generator)
        return [rows, torch.randperm(number, generator=self._generator)]

    def _input(self, values: Float[Tensor, " batch"], labels: Int[Tensor, " batch"]) -> Float[Tensor, "batch z"]:
        columns = one_hot(labels, self._num_classes, values.dtype)
        return torch.cat([columns * values[:, None], columns], 1)
