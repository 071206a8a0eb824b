"""Train a model by the user's own function, and check what it returns."""

from __future__ import annotations

from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from ungan_dist.config.own.training import find_training_function
from ungan_dist.config.training import TrainConfig
from ungan_dist.data.dataset import ExampleDataset
from ungan_dist.data.examples import Examples
from ungan_dist.data.seeds import derive_seed
from ungan_dist.training.checkpoint import Checkpoint


def train_by_function(
    model: nn.Module,
    data: Examples,
    indices: Int[Tensor, " set"],
    config: TrainConfig,
    *,
    seed: int,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train a model in place by ``train.function``, and leave it in eval mode.

    Args:
        checkpoint: is told of the epochs; it keeps no state, so a killed training begins anew.

    Raises:
        ImportError: the function's source is not that of the plan.
        ValueError: it returns no model, or one of another architecture.
    """
    function = find_training_function(config)
    dataset = ExampleDataset(data, indices, augment=config.augment, seed=derive_seed("augment", seed))

    def on_progress(epoch: int, num_epochs: int) -> None:
        if checkpoint is not None:
            checkpoint.on_epoch(epoch, num_epochs)

    result: Any = function(model.train(), dataset, seed=seed, device=data.device, on_progress=on_progress)
    if not isinstance(result, nn.Module):
        raise ValueError(f"{config.function} must return the trained nn.Module, got {type(result).__name__}")
    if result is not model:
        try:
            model.load_state_dict(result.state_dict())
        except Exception as error:  # user code may raise anything
            raise ValueError(
                f"{config.function} returned a model of another architecture than it was given: return the model "
                f"itself, or a copy of it, not one inside another module. {error}"
            ) from error
    model.eval()
