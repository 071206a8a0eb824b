"""Endless batches with a position that can be saved and restored."""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Int
from torch import Tensor

from ungan_dist.data.examples import cycle_batches


class BatchStream(Iterator[tuple[int, Tensor]]):
    """Iterate over ``ungan_dist.data.examples.cycle_batches`` and count the batches drawn."""

    def __init__(self, indices: Int[Tensor, " set"], batch_size: int, *, seed: int) -> None:
        self._batches = cycle_batches(indices, batch_size, seed=seed)
        self.num_drawn = 0

    def __next__(self) -> tuple[int, Int[Tensor, " batch"]]:
        self.num_drawn += 1
        return next(self._batches)

    def skip_to(self, num_drawn: int) -> None:
        """Draw and discard batches; cheap, since the order of each pass depends on (seed, pass) alone.

        Raises:
            ValueError: the stream is past that position.
        """
        if num_drawn < self.num_drawn:
            raise ValueError(f"a stream cannot go back from batch {self.num_drawn} to batch {num_drawn}")
        while self.num_drawn < num_drawn:
            next(self)

    def state_dict(self) -> dict[str, int]:
        return {"num_drawn": self.num_drawn}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skip_to(state["num_drawn"])
