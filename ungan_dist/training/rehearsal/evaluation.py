"""Check that a model in eval mode is a function of each example alone: every log-odds of an audit relies on it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ungan_dist.config.user_code import run_user_code
from ungan_dist.training.batch_norm import BatchNorm
from ungan_dist.training.probing import check_logits, describe_shape
from ungan_dist.training.rehearsal.side_effects import (
    changed_names,
    seed_everything,
    state_of,
    watch_input,
    watch_settings,
)

MAX_EXAMPLES = 512
"""Most examples that are evaluated alone and in company."""
MIN_EXAMPLES = 8
"""Fewest of them, however slow the model is."""
SPREAD_FRACTION = 1e-2
"""Largest difference that other kernels may make, relative to the spread of the logits between examples."""
ROUNDING = 1e-5
"""The same, relative to the largest logit, for float32 on a CPU."""
COARSE_ROUNDING = 2e-2
"""The same on a GPU, where products may be rounded to TF32, and for a forward that computes in half precision."""
MAX_BATCHES_S = 5.0
"""Time for evaluating every batch size, from the smallest up; sizes that would take longer are left out."""


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What was evaluated."""

    num_examples: int
    """Examples evaluated alone and in company."""
    left_out: tuple[int, ...]
    """Batch sizes that would have taken too long."""
    notes: tuple[str, ...] = ()


@torch.inference_mode()
def check_evaluation(
    model: nn.Module,
    images: Float[Tensor, "sample channels ..."],
    *,
    batch_sizes: Iterable[int] = (),
    num_classes: int | None = None,
    weights: str = "its weights",
    seconds: float = 1.0,
) -> Evaluated:
    """Evaluate examples twice, in another order, alone, and in every batch size.

    Differences of rounding are allowed: batches of other sizes are computed by other kernels.

    Args:
        model: in eval mode.
        images: the examples; as many are used as the time allows.
        batch_sizes: sizes of batches that the run will evaluate.
        num_classes: expected number of logits; by default any number is accepted.
        weights: names the model's weights in error messages.
        seconds: time for evaluating examples, except for ``batch_sizes``.

    Raises:
        ValueError: the model raises, or its outputs are not finite logits that depend on the example alone.
    """
    asked = _Evaluation(model, num_classes, weights)
    before = state_of(model)
    asked(images[:2])  # the first call may compile
    start = time.perf_counter()
    asked(images[:MIN_EXAMPLES])
    pace = (time.perf_counter() - start) / min(MIN_EXAMPLES, len(images))
    number = min(len(images), max(MIN_EXAMPLES, int(seconds / (8 * pace))))
    images = images[:number]
    logits = asked.check_repeats(images)
    changed = [name for name in changed_names(before, model) if _is_float(name, model)]
    if changed:
        raise ValueError(
            f"the model changes {changed[0]} in eval mode ({weights}), so its outputs depend on what it was asked "
            f"before: update it only while self.training is true"
        )
    sizes = sorted(set(batch_sizes))
    alone = asked.check_alone(images, logits, must_work=1 in sizes, until=time.perf_counter() + seconds / 2)
    totals = itertools.accumulate(sizes)
    possible = [size for size, total in zip(sizes, totals, strict=True) if total * pace <= MAX_BATCHES_S]
    for size in possible:
        some = torch.arange(size, device=images.device) % number
        asked.compare(images[some], logits[some], asked(images[some]), f"in a batch of {size}")
    return Evaluated(
        num_examples=alone, left_out=tuple(size for size in sizes if size not in possible), notes=_notes(logits)
    )


class _Evaluation:
    """Evaluates one model, and compares what it returns."""

    def __init__(self, model: nn.Module, num_classes: int | None, weights: str) -> None:
        self._model, self._num_classes, self._weights = model, num_classes, weights
        self._scale = self._spread = 0.0

    def __call__(self, images: Tensor, *, seed: int = 0) -> Tensor:
        shape = tuple(images.shape[1:])
        subject = f"the model cannot take {describe_shape(shape)}, {len(images)} at once: it"
        remedy = (
            ". If the model is made for other images: a factory that names channels receives their number, and "
            "--source.resize N resizes them"
            if len(shape) == 3
            else ". A factory that names features receives the number of the columns of a table"
        )
        with (
            watch_settings("forward of the model"),
            watch_input(images),
            run_user_code(subject, remedy=remedy),
            seed_everything(seed),
        ):
            outputs: object = self._model(images)
        return check_logits(outputs, images, self._num_classes, model=self._model, weights=self._weights)

    def check_repeats(self, images: Tensor) -> Tensor:
        """Evaluate one batch four times and once in reverse order; return its logits."""
        outputs = self(images)
        logits = outputs.clone()
        self._scale = float(logits.abs().max()) or 1.0
        self._spread = float((logits - logits.mean(dim=0)).abs().max())
        reverse = self(images.flip(0)).flip(0)
        if not torch.equal(outputs, logits):
            raise ValueError(
                "the model returns the same memory in every call, so a later call overwrites the outputs of an earlier "
                "one: return a new tensor, for example outputs.clone()"
            )
        again, other, other_again = self(images).clone(), self(images, seed=1).clone(), self(images, seed=1)
        exact = 1e-5 if images.device.type == "cpu" else 1e-3
        from_state = max(self._gap(again, logits), self._gap(other_again, other))
        if from_state > exact:
            raise ValueError(
                f"the outputs of the model change from call to call in eval mode ({self._weights}), by up to "
                f"{from_state:.2g} of the largest: it keeps state between calls, such as a counter, a "
                f"cache or a generator of its own, and every log-odds would be noise. Let forward in eval mode depend "
                f"on its input alone{_culprit(self._model)}"
            )
        if self._gap(other, logits) > exact:
            raise ValueError(
                f"the outputs of the model are random in eval mode ({self._weights}): they differ by up to "
                f"{self._gap(other, logits):.2g} of the largest, so every log-odds would be noise. Draw at random only "
                f"while self.training is true: write functional.dropout(x, p, training=self.training), or use "
                f"nn.Dropout{_culprit(self._model)}"
            )
        self.compare(images, logits, reverse, "in another order")
        return logits

    def check_alone(self, images: Tensor, logits: Tensor, *, must_work: bool, until: float) -> int:
        """Evaluate examples one by one, or in pairs if a single one fails and will not occur.

        Returns:
            The number of examples evaluated.
        """
        size = 1
        try:
            self(images[:1])
        except ValueError as error:
            if must_work or len(images) < 4:
                raise ValueError(
                    f"{error}. Evaluation ends with a batch of one here; x.squeeze() drops the batch's dimension then: "
                    f"write x.flatten(1)"
                ) from error
            size = 2
        done = 0
        for batch, expected in zip(images.split(size), logits.split(size), strict=True):
            if done >= MIN_EXAMPLES and time.perf_counter() > until:
                break
            if len(batch) < size:
                continue
            self.compare(batch, expected, self(batch), "alone" if size == 1 else "in pairs")
            done += len(batch)
        return done

    def compare(self, images: Tensor, logits: Tensor, others: Tensor, company: str) -> None:
        """Refuse outputs that depend on the other examples of a batch.

        Args:
            images: the examples.
            logits: their outputs in the first batch.
            others: their outputs in another one.
            company: describes the other batch.

        Raises:
            ValueError: they differ by more than rounding.
        """
        gap = self._gap(others, logits)
        precise = logits.device.type == "cpu"
        if gap <= max(SPREAD_FRACTION * self._spread / self._scale, ROUNDING if precise else COARSE_ROUNDING):
            return
        if gap <= COARSE_ROUNDING and self._computes_in_half(images):
            return
        raise ValueError(
            f"the outputs of the model for an example depend on the other examples in its batch, or on its place "
            f"there ({self._weights}): evaluated {company}, they differ by up to {gap:.2g} of the largest, so every "
            f"log-odds would be noise. Keep running statistics in batch norms, or use nn.GroupNorm, and take no mean "
            f"over the batch in eval mode{_culprit(self._model)}"
        )

    def _computes_in_half(self, images: Tensor) -> bool:
        """Whether some operation of the model returns half precision, as under autocast."""
        with _FindHalf() as found:
            self(images[:2])
        return found.any

    def _gap(self, one: Tensor, other: Tensor) -> float:
        return float((one - other).abs().max()) / self._scale if one.numel() else 0.0


class _FindHalf(TorchDispatchMode):
    """Notes whether an operation returns half precision."""

    any = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.any = self.any or getattr(result, "dtype", None) in (torch.float16, torch.bfloat16)
        return result


def _culprit(model: nn.Module) -> str:
    """Name the layer that is the likely reason, as the end of a message."""
    for name, layer in model.named_modules():
        title = f"{name or 'the model itself'} ({type(layer).__name__})"
        if layer.training:
            return f". After model.eval(), {title} is still in training mode"
        if isinstance(layer, BatchNorm) and layer.running_mean is None:
            return f". Here {title} keeps no running statistics: leave out track_running_stats=False"
    return ""


def _is_float(name: str, model: nn.Module) -> bool:
    values = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return name not in values or values[name].is_floating_point()


def _notes(logits: Tensor) -> tuple[str, ...]:
    rows = logits.sum(dim=1)
    if bool((logits >= 0).all()) and bool(torch.allclose(rows, torch.ones_like(rows), atol=1e-4)):
        return (
            "The model returns probabilities. Training and attack take the softmax of its outputs once more, which "
            "flattens both: leave out its last softmax, so that it returns logits.",
        )
    return ()
