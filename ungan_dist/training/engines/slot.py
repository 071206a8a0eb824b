"""Train model after model, or several at once, in the same memory by the same captured step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ungan_dist.config.training import ModelConfig, TrainConfig
from ungan_dist.data.examples import Examples, draw_batches, draw_pass
from ungan_dist.data.prepared import PreparedData, open_examples
from ungan_dist.data.rows import Rows, split_pass
from ungan_dist.data.seeds import seed_layers
from ungan_dist.training.average import trained_tensors
from ungan_dist.training.checkpoint import Checkpoint, Epochs
from ungan_dist.training.engines.capture import NUM_WATCHED, CapturedSteps
from ungan_dist.training.engines.passes import make_step, read_ahead, read_rows, take_rows, without_fused_crops
from ungan_dist.training.models import build, is_channels_last, use_memory_format
from ungan_dist.training.optimizers import without_compiler
from ungan_dist.training.recipe import choose_optimizer, extend_steps, make_loss
from ungan_dist.training.schedules import learning_rates
from ungan_dist.training.train import refuse_divergence
from ungan_dist.training.world import SINGLE_PROCESS


class Slot:
    """A place for one or several models of one architecture, whose steps are captured once and serve model after model.

    A model is put in by a copy of its weights and buffers, and trained from a zero optimizer state. With several
    places, all take their steps at once, on a GPU each on a stream of its own.
    """

    def __init__(self, models: Sequence[nn.Module], data: Examples, config: TrainConfig, set_size: int) -> None:
        """Capture a step for each size of a batch.

        Args:
            models: A model for each place, which becomes the place's own.
            data: The examples.
            config: The training recipe.
            set_size: Size of each model's training set; at least two.

        Raises:
            CaptureRefused: A step of the model cannot be captured.
        """
        self._models = [model.train() for model in models]
        self._data, self._config = without_fused_crops(data), config
        self._optimizers = [_make_static_optimizer(model, config) for model in self._models]
        self._averages = [
            extend_steps(optimizer, config, functools.partial(trained_tensors, model))
            for model, optimizer in zip(self._models, self._optimizers, strict=True)
        ]
        self._steps = CapturedSteps(data.device)
        streams = [torch.cuda.Stream(data.device) for _ in models] if data.device.type == "cuda" else []
        loss = make_loss(config)
        parts = [
            make_step(model, self._data, optimizer, loss)
            for model, optimizer in zip(self._models, self._optimizers, strict=True)
        ]
        self._step = functools.partial(_take_all, parts, streams)
        self._prime(set_size)

    @property
    def num_captured(self) -> int:
        """Number of captured steps: one for each size of a batch."""
        return self._steps.num_captured

    def train(
        self,
        models: Sequence[nn.Module],
        indices: Sequence[Int[Tensor, " set"]],
        *,
        seeds: Sequence[int],
        checkpoint: Checkpoint | None = None,
    ) -> list[list[float]]:
        """Train models in place, each on its own set, and leave them in eval mode.

        Args:
            models: As many models as the slot has places.
            indices: The training set of each model.
            seeds: The seed of each model.
            checkpoint: Keeps the state after an epoch, and is continued if it holds one.

        Returns:
            For each epoch, the mean cross-entropy of each model in nats.

        Raises:
            Diverged: A loss is not a number.
        """
        averages = {f"average {place}": one for place, one in enumerate(self._averages) if one is not None}
        for own, optimizer, model in zip(self._models, self._optimizers, models, strict=True):
            _copy_tensors(model, own)
            optimizer.reset()
        for average in averages.values():
            average.restart()
        state: dict[str, Any] = {f"model {place}": model for place, model in enumerate(self._models)}
        state |= {f"optimizer {place}": optimizer for place, optimizer in enumerate(self._optimizers)}
        state |= averages
        losses: list[list[float]] = []
        epochs = Epochs(checkpoint, SINGLE_PROCESS, seeds[0], losses=losses, **state)
        for epoch in epochs.iterate("train", self._config.epochs):
            losses.append(self._pass(indices, seeds, epoch))
            refuse_divergence(losses[-1], epoch, self._config.epochs)
        for average in averages.values():
            average.write()
        for own, model in zip(self._models, models, strict=True):
            _copy_tensors(own, model)
            model.eval()
        return losses

    def _pass(self, indices: Sequence[Tensor], seeds: Sequence[int], epoch: int) -> list[float]:
        sets = [self._draw(members, seed, epoch) for members, seed in zip(indices, seeds, strict=True)]
        num_steps = sum(1 for _ in split_pass(len(indices[0]), self._config.batch_size))
        losses, last = list[Tensor](), None
        for rate, *batch in zip(learning_rates(self._config, epoch, num_steps), *sets, strict=True):
            if rate != last:
                self._prepare(last := rate)
            losses.append(self._take(batch).clone())
        return torch.stack(losses).mean(0).tolist()

    def _draw(self, members: Tensor, seed: int, epoch: int) -> Iterator[Rows]:
        data, config = self._data, self._config
        batches = draw_batches(data, members, config.batch_size, seed=seed, epoch=epoch, augment=config.augment)
        # a file is read ahead by one pass at a time
        return read_ahead(data, batches) if len(self._models) == 1 else (read_rows(data, rows) for rows in batches)

    def _take(self, batch: Sequence[Rows]) -> Tensor:
        labels = [self._data.labels[rows.indices] for rows in batch]
        return take_rows(self._steps, self, self._step, *batch, *labels)

    def _prepare(self, learning_rate: float) -> None:
        for optimizer in self._optimizers:
            optimizer.param_groups[0]["lr"] = learning_rate
            self._steps.prepare(optimizer)

    def _prime(self, set_size: int) -> None:
        """Capture every step on throw-away weights, so that each model is trained by replays alone."""
        self._prepare(0.0)
        some = torch.arange(set_size, device=self._data.device)
        drawn = draw_pass(self._data, some, seed=0, epoch=0, augment=self._config.augment)
        sizes = {batch.stop - batch.start for batch in split_pass(set_size, self._config.batch_size)}
        with seed_layers("slot"):
            for size in sorted(sizes):
                for _ in range(NUM_WATCHED):
                    self._take([read_rows(self._data, drawn[:size])] * len(self._models))


class _StaticState(torch.optim.Optimizer):
    """An optimizer whose state stays in the same memory."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = {parameter: dict(state) for parameter, state in self.state.items()}
        super().load_state_dict(state_dict)
        for parameter, before in own.items():
            for name, value in before.items():
                value.copy_(self.state[parameter][name])
            self.state[parameter] = before

    def reset(self) -> None:
        """Set the state to that before the first step."""
        state = [value for values in self.state.values() for value in values.values()]
        if state:  # SGD without momentum has none
            torch._foreach_zero_(state)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]


@functools.cache
def _static(kind: type[torch.optim.Optimizer]) -> type[_StaticState]:
    return type(kind.__name__, (_StaticState, without_compiler(kind)), {})


def _make_static_optimizer(model: nn.Module, config: TrainConfig) -> _StaticState:
    kind, options = choose_optimizer(config)
    return _static(kind)([parameter for parameter in model.parameters() if parameter.requires_grad], **options)


def _take_all(
    parts: Sequence[Callable[[Rows, Tensor], Tensor]], streams: Sequence[torch.cuda.Stream], *inputs: Any
) -> Tensor:
    """Take one step of every place, on its own stream where there are streams.

    Args:
        parts: The step of each place.
        streams: The stream of each place; none on a CPU.
        inputs: The rows of all places, then the labels of all places.
    """
    pairs = list(zip(inputs[: len(parts)], inputs[len(parts) :], strict=True))
    if not streams or len(parts) == 1:
        return torch.stack([part(*pair) for part, pair in zip(parts, pairs, strict=True)])
    current, losses = torch.cuda.current_stream(), list[Tensor]()
    for part, pair, stream in zip(parts, pairs, streams, strict=True):
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            losses.append(part(*pair))
    for stream in streams:
        current.wait_stream(stream)
    return torch.stack(losses)


@torch.no_grad()
def _copy_tensors(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters and buffers in place, those that no state holds too, by one operation for each type."""
    pairs = [(target.get_parameter(name), parameter) for name, parameter in source.named_parameters()]
    pairs += [(target.get_buffer(name), buffer) for name, buffer in source.named_buffers()]
    for dtype in {own.dtype for own, _ in pairs}:
        ours, theirs = zip(*(pair for pair in pairs if pair[0].dtype == dtype), strict=True)
        torch._foreach_copy_(ours, theirs)  # pyright: ignore[reportPrivateImportUsage, reportPrivateUsage]


@functools.lru_cache(maxsize=1)
def open_slot(
    prepared: PreparedData,
    device: str,
    fused: tuple[str, ...],
    model: ModelConfig,
    config: TrainConfig,
    *,
    set_size: int,
    num_places: int = 1,
) -> Slot:
    """Make a slot, or return this process's last one if it is the same."""
    data = open_examples(prepared, device, fused)
    models = [
        build(
            model,
            channels=data.input_shape[0],
            num_classes=data.num_classes,
            seed=0,
            device=data.device,
            size=data.input_shape[1:],
        )
        for _ in range(num_places)
    ]
    for one in models:
        use_memory_format(one, model, config.memory_format)
    channels_last = is_channels_last(models[0], model, config.memory_format)
    return Slot(models, dataclasses.replace(data, channels_last=channels_last), config, set_size)
