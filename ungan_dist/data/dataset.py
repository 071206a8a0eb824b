"""A set as ``torch.utils.data.Dataset``, for code that has its own loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import Examples, gather


class ExampleDataset(Dataset[tuple[Tensor, Tensor]]):
    """Normalised images and labels of a set, on the device of the data.

    Read it in the same process (``num_workers=0``): a batch is one operation.
    """

    def __init__(
        self,
        data: Examples,
        indices: Int[Tensor, " set"],
        *,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        """Choose the set.

        Args:
            data: The data set.
            indices: The set.
            augment: Random crop and flip; defaults to none.
            seed: Seed of the crops.
            epoch: Epoch of the crops.
        """
        self._data, self._indices = data, indices
        self._view: dict[str, Any] = {"augment": augment, "seed": seed, "epoch": epoch}

    def set_epoch(self, epoch: int) -> None:
        """Draw the crops of another epoch from now on."""
        self._view["epoch"] = epoch

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[Float[Tensor, "channels ..."], Int[Tensor, ""]]:
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of a set of {len(self)}")
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return several examples at once, as a ``DataLoader`` asks for them."""
        chosen = self._indices[torch.as_tensor(positions, device=self._indices.device)]
        images = gather(self._data, chosen, **self._view)
        return list(zip(images, self._data.labels[chosen], strict=True))
