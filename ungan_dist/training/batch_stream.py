"""Endless batches with a position that can be saved and restored."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from torch import Tensor

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import Examples, cycle_passes, draw
from ungan_dist.data.rows import ImageTransform, Rows


class BatchStream(Iterator[Rows]):
    """Iterate over the batches of ``ungan_dist.data.examples.cycle_passes``, and count those drawn.

    A pass's crops are drawn and uploaded once, with its first batch. No batch waits for the device.
    """

    def __init__(
        self,
        data: Examples,
        indices: Int[Tensor, " set"],
        batch_size: int,
        *,
        seed: int,
        augment: AugmentConfig | None = None,
        augment_seed: int = 0,
    ) -> None:
        """Start before the first batch.

        Args:
            data: The data set.
            indices: The set to iterate over.
            batch_size: Number of examples in a batch.
            seed: Seed of the passes' orders.
            augment: Random crop and flip; defaults to none.
            augment_seed: Seed of the crops.
        """
        self._data, self._batch_size = data, batch_size
        self._view = {"augment": augment, "seed": augment_seed}
        self._passes = cycle_passes(indices.cpu().numpy(), batch_size, seed=seed)
        self._pass: tuple[int, Int[np.ndarray, " rows"]] | None = None
        self._rows: Rows | None = None
        self._next_row = 0
        self.num_drawn = 0

    def __next__(self) -> Rows:
        epoch, host = self._advance()
        if self._rows is None:
            self._rows = draw(self._data, host, ImageTransform(**self._view, epoch=epoch))
        return self._rows[self._next_row - self._batch_size : self._next_row]

    def _advance(self) -> tuple[int, Int[np.ndarray, " rows"]]:
        """Go to the next batch, whose last row is the one before ``_next_row``."""
        if self._pass is None or self._next_row == len(self._pass[1]):
            self._pass, self._rows, self._next_row = next(self._passes), None, 0
        self._next_row += self._batch_size
        self.num_drawn += 1
        return self._pass

    def skip_to(self, num_drawn: int) -> None:
        """Discard batches; cheap, since the order of each pass depends on (seed, pass) alone.

        Raises:
            ValueError: the stream is past that position.
        """
        if num_drawn < self.num_drawn:
            raise ValueError(f"a stream cannot go back from batch {self.num_drawn} to batch {num_drawn}")
        while self.num_drawn < num_drawn:
            self._advance()

    def state_dict(self) -> dict[str, int]:
        return {"num_drawn": self.num_drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skip_to(state["num_drawn"])
