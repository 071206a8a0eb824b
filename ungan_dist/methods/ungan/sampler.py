"""Random draws of UnGAN: endless batches of every set, and the mixing coefficients ε."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ungan_dist.config.methods import UnGANConfig
from ungan_dist.data.examples import gather_rows
from ungan_dist.data.rows import Rows, upload
from ungan_dist.data.seeds import derive_seed
from ungan_dist.kernels import find_critic_obstacle, find_options_obstacle
from ungan_dist.methods.request import Request
from ungan_dist.methods.ungan.critic_network import build_critic_input, critic_options
from ungan_dist.methods.ungan.sets import evaluate_unseen, refuse_empty_sets
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.batch_stream import BatchStream
from ungan_dist.training.train import take_step

EPSILON_STEPS = 64
"""Critic steps whose ε is drawn and uploaded at once."""


class Sampler:
    """Draws batches of every set, each from its own shuffled stream, and the mixing coefficients ε.

    The processes of a world share every batch. Paired losses are computed on each process's own rows. Losses over all
    pairs need every row, so their z are gathered, with gradients.
    """

    def __init__(self, request: Request, config: UnGANConfig) -> None:
        refuse_empty_sets(request)
        sets = {
            "forget": request.forget,
            "forget 2": request.forget,
            "unseen": request.unseen,
            "unseen 2": request.unseen,
            "retain": request.retain,
        }
        self.options = critic_options(config)
        self._request = request
        self._config = config
        self._batch_size = config.batch_size or request.train.batch_size
        augment = request.train.augment if config.augment_adversarial else None
        self._unseen_is_fixed = augment is None
        self._needs_all_rows = config.estimator == "all_pairs"
        self._share = len(range(self._batch_size)[request.world.row_slice(self._batch_size)])
        self._streams = {
            name: BatchStream(
                request.data,
                indices,
                self._batch_size,
                seed=derive_seed("ungan", name, request.seed),
                augment=request.train.augment if name == "retain" else augment,
                augment_seed=derive_seed("ungan augment", name, request.seed),
            )
            for name, indices in sets.items()
        }
        self._num_epsilons = 0
        self._epsilons: Float[Tensor, "steps rows 1"] | None = None
        self._original_logits: Float[Tensor, "examples classes"] | None = None

    def draw(self, *names: str) -> list[Rows]:
        """Draw this process's share of the next batch of each stream."""
        return [self._request.world.share(next(self._streams[name])) for name in names]

    def run(self, name: str, step: Callable[..., Tensor], *inputs: Rows | Tensor) -> Tensor:
        """Take a step on drawn inputs: see ``Request.take_step``."""
        return self._request.take_step((self, name), step, *inputs)

    def embed_forget(self, generator: nn.Module, *batches: Rows) -> list[Float[Tensor, "batch features"]]:
        """Return z_f = G(x_f)‖y_f, and z'_f for rows of the stream ``forget 2``, from one forward pass.

        In training mode each batch has a pass of its own, because batch norm would mix their statistics.
        """
        images = [self._images(rows) for rows in batches]
        if generator.training:
            logits = [self.evaluate(generator, one) for one in images]
        else:
            num_rows = self._batch_size * len(images)
            together = forward(generator, torch.cat(images), num_rows=num_rows)
            logits = together.split([len(one) for one in images])
        return [self._critic_input(one, rows) for one, rows in zip(logits, batches, strict=True)]

    def embed_unseen(self, rows: Rows) -> Float[Tensor, "batch features"]:
        """Return z_u = Ĝ(x_u)‖y_u."""
        if self._unseen_is_fixed:
            logits = self._logits_of_unseen()[rows.indices]
        else:
            with torch.no_grad():
                logits = forward(self._request.original, self._images(rows))
        return self._critic_input(logits, rows)

    def read_retain(self, rows: Rows) -> tuple[Float[Tensor, "batch channels ..."], Int[Tensor, " batch"]]:
        """Return x_r, augmented as in the training recipe, and y_r."""
        return self._images(rows), self._request.data.labels[rows.indices]

    def evaluate(self, generator: nn.Module, images: Float[Tensor, "share ..."]) -> Float[Tensor, "share classes"]:
        """Return G(x) for this process's share of a batch."""
        return forward(generator, images, num_rows=self._batch_size)

    def sample_epsilon(self) -> Float[Tensor, "batch 1"]:
        """Draw ε ~ U(0, 1), one per row or per batch; it depends only on the seed and the number of the step."""
        block, place = divmod(self._num_epsilons, EPSILON_STEPS)
        if self._epsilons is None or place == 0:
            self._epsilons = self._draw_epsilons(range(block * EPSILON_STEPS, (block + 1) * EPSILON_STEPS))
        self._num_epsilons += 1
        epsilon = self._epsilons[place].expand(self._batch_size, 1)
        return epsilon if self._needs_all_rows else self._request.world.share(epsilon)

    def _draw_epsilons(self, steps: range) -> Float[Tensor, "steps rows 1"]:
        """Draw ε of these steps on the host, and upload all of it at once."""
        num_draws = self._batch_size if self._config.epsilon_per == "row" else 1
        seeds = [derive_seed("ungan epsilon", self._request.seed, step) for step in steps]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        draws = [torch.rand((num_draws, 1), generator=one, dtype=torch.float64) for one in generators]
        table = self._request.data.table
        return upload(torch.stack(draws).to(table.dtype).numpy(), table.device)

    def partial_loss(self, loss: Callable[[], Tensor], *z: Tensor) -> Float[Tensor, ""]:
        """Return this process's part of an adversarial loss; with gathered rows, every process computes the whole."""
        return loss() / self._request.world.size if self._needs_all_rows else self.partial_row_loss(loss, *z)

    def partial_row_loss(self, loss: Callable[[], Tensor], *outputs: Tensor) -> Float[Tensor, ""]:
        """Return this process's part of a mean over the batch's rows."""
        return self._request.world.partial_loss(loss, self._share, self._batch_size, *outputs)

    def take_step(
        self, part: Float[Tensor, ""], optimizer: torch.optim.Optimizer, generator: nn.Module
    ) -> Float[Tensor, ""]:
        """Take an optimizer step on the sum of all processes' parts, and return this process's part."""
        world = self._request.world
        return take_step(part, optimizer, generator, share=self._share, num_rows=self._batch_size, world=world)

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches drawn from each stream, and of mixing coefficients."""
        return {name: stream.num_drawn for name, stream in self._streams.items()} | {"epsilons": self._num_epsilons}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a saved position."""
        for name, stream in self._streams.items():
            stream.skip_to(state[name])
        self._num_epsilons, self._epsilons = state["epsilons"], None

    def _critic_input(self, logits: Float[Tensor, "share classes"], rows: Rows) -> Float[Tensor, "rows features"]:
        z = build_critic_input(logits, self._request.data.labels[rows.indices], self._config.critic_input)
        return self._request.world.gather(z, self._batch_size) if self._needs_all_rows else z

    def implementation(self, operation: str, critic: list[Tensor]) -> Literal["reference", "fused"]:
        """Return the implementation that the plan chose, or the reference if the options have no fused one."""
        obstacle = find_options_obstacle(self.options, generator=operation == "generator_loss")
        if obstacle is not None or find_critic_obstacle(critic) is not None:
            return "reference"
        return self._request.data.implementation(operation)

    def can_fuse_step(self, critic: list[Tensor]) -> bool:
        """Whether loss, gradients and SGD step run as one operation, which needs a single process."""
        return self._request.world.size == 1 and self.implementation("critic_sgd_step", critic) == "fused"

    def _images(self, rows: Rows) -> Float[Tensor, "batch channels ..."]:
        return gather_rows(self._request.data, rows)

    def _logits_of_unseen(self) -> Float[Tensor, "examples classes"]:
        """Return Ĝ(x_u) at the examples' own indices; computed once, since Ĝ never changes."""
        if self._original_logits is None:
            self._original_logits = evaluate_unseen(self._request, self._batch_size)
        return self._original_logits
