"""What a worker does for a forecast: a few real epochs of everything that a run will train, timed.

The real functions run on the real data, with the real model and batch size. Of a stage's epochs the first, the middle
and the last are run, the rest are interpolated. Where an epoch is long, the sets are thinned by a divisor, by which the
times are multiplied again: a batch stays as large as it is.
"""

from __future__ import annotations

import dataclasses
import math
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ungan_dist import store
from ungan_dist.config.methods import UnGANConfig
from ungan_dist.data.prepared import open_examples
from ungan_dist.methods.ungan.algorithm import turns_of
from ungan_dist.runs.shadows import ShadowUnit, train_unit
from ungan_dist.runs.targets import Target, TargetUnit, evaluate_target, train_target
from ungan_dist.runs.units import Done, Failed
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.world import ALONE

EPOCHS_OF_A_METHOD = 4
"""About as many epochs of the original's cost does a method's sample take; decides how far the sets are thinned."""


class Cost(NamedTuple):
    """Time that something takes."""

    seconds: float
    """Of the clock."""
    cpu_seconds: float
    """Of all threads of its process: what other work on the machine disturbs less."""

    def times(self, factor: float) -> Cost:
        return Cost(self.seconds * factor, self.cpu_seconds * factor)

    def plus(self, *others: Cost) -> Cost:
        return Cost(*(sum(column) for column in zip(self, *others, strict=True)))

    def minus(self, other: Cost) -> Cost:
        return Cost(max(0.0, self.seconds - other.seconds), max(0.0, self.cpu_seconds - other.cpu_seconds))


NOTHING = Cost(0.0, 0.0)


def now(device: str = "cpu") -> Cost:
    """The two clocks, the device having done all that was asked of it."""
    if device == "cuda":
        torch.cuda.synchronize()
    return Cost(time.perf_counter(), time.process_time())


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeUnit:
    """A unit of work like another: it commits what it has measured."""

    id: str
    folder: str
    """Scratch folder that driver and workers share: it has the layout of a run folder."""
    shadow: ShadowUnit
    """The first unit of shadow models."""
    targets: tuple[TargetUnit, ...]
    """One a method, the original first."""
    seconds: float
    """About what it may take."""

    @property
    def num_models(self) -> int:
        """Models that it trains a little of."""
        return 1 + len(self.targets)

    @property
    def title(self) -> str:
        return "a probe"

    @property
    def marker(self) -> str:
        return f"{self.id}.json"


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What one worker has measured, a unit at full size."""

    targets: dict[str, Cost]
    """By method."""
    shadows: Cost
    """One shadow model, in a unit of its kind."""
    opening: Cost
    """What comes once a process: reading the data, and what torch does before the first step only."""
    memory_bytes: int
    """The most that the process has held."""
    device_memory_bytes: int
    weights_bytes: int
    """A model on disk."""
    divisor: int
    """By which the sets were thinned."""
    elapsed: Cost
    """The probe itself."""


def execute(unit: ProbeUnit) -> Done | Failed:
    """Measures and commits; a worker's part."""
    try:
        store.commit(Path(unit.folder), unit.marker, id=unit.id, files={}, facts=dataclasses.asdict(measure(unit)))
    except Exception:  # as with any unit: the reason reaches the driver
        return Failed(unit=unit, error=traceback.format_exc())
    return Done(unit=unit)


def is_done(unit: ProbeUnit) -> bool:
    """Whether a probe has committed what it measured."""
    return store.committed(Path(unit.folder), unit.marker, id=unit.id) is not None


def read(unit: ProbeUnit) -> Probed:
    """What a probe has measured."""
    facts = store.committed(Path(unit.folder), unit.marker, id=unit.id)
    assert facts is not None
    return Probed(
        **{
            **facts,
            "targets": {method: Cost(*cost) for method, cost in facts["targets"].items()},
            **{name: Cost(*facts[name]) for name in ("shadows", "opening", "elapsed")},
        }
    )


def measure(unit: ProbeUnit) -> Probed:
    """Times a few epochs of everything."""
    device = unit.shadow.device
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = now(device)
    for one in (unit.shadow, unit.targets[0]):
        open_examples(one.prepared, one.device, one.fused)
    opening = now(device).minus(start)
    shadows, divisor, first_step = _shadow_cost(unit)
    root = Path(unit.folder)
    targets: dict[str, Cost] = {}
    num_bytes, asking = 0, NOTHING
    for target in unit.targets:
        thin = _thinned(target, divisor)
        trained, cost = _training_cost(thin, divisor)
        if target.method == "original":
            begin = now(device)
            files, facts = evaluate_target(_asked_less(thin, divisor), trained)
            asking = now(device).minus(begin).times(divisor)
            num_bytes = len(files[thin.weights_file])
        else:
            files, facts = {thin.weights_file: b"\0" * num_bytes}, {}
        begin = now()
        store.commit(root, thin.marker, id=thin.id, files=files, facts=facts)
        targets[target.method] = cost.plus(asking, now().minus(begin))
    return Probed(
        targets=targets,
        shadows=shadows,
        opening=opening.plus(first_step),
        memory_bytes=_peak_memory(),
        device_memory_bytes=torch.cuda.max_memory_allocated() if device == "cuda" else 0,
        weights_bytes=num_bytes,
        divisor=divisor,
        elapsed=now(device).minus(start),
    )


class _Stopwatch(Checkpoint):
    """In the place where states are kept: picks the epochs that are run, and times each."""

    def __init__(self, device: str) -> None:
        super().__init__(Path(), "", id="", world=ALONE)
        self._device = device
        self._began = NOTHING
        self._picked: dict[str, list[int]] = {}
        self._num_epochs: dict[str, int] = {}
        self._costs: dict[str, list[Cost]] = {}
        self._stage = ""

    def load(self) -> None:
        """Nothing was kept."""

    def epochs(self, stage: str, first: int, last: int) -> Iterator[int]:
        """The first, the middle and the last."""
        picked = sorted({first, (first + last - 1) // 2, last - 1} & set(range(first, last)))
        self._stage, self._num_epochs[stage] = stage, last - first
        self._picked[stage], self._costs[stage] = [epoch - first for epoch in picked], []
        for epoch in picked:
            self._began = now(self._device)
            yield epoch

    def save(self, state: dict[str, Any]) -> None:
        """An epoch has ended."""
        del state
        self._costs[self._stage].append(now(self._device).minus(self._began))

    @property
    def measured(self) -> Cost:
        """What the epochs took that were run."""
        return NOTHING.plus(*(cost for costs in self._costs.values() for cost in costs))

    @property
    def whole(self) -> Cost:
        """What all epochs would take: those between the ones that were run lie between them in cost."""
        total = NOTHING
        for stage, costs in self._costs.items():
            if costs:
                every = np.arange(self._num_epochs[stage])
                columns = zip(*costs, strict=True)
                total = total.plus(Cost(*(float(np.interp(every, self._picked[stage], c).sum()) for c in columns)))
        return total


def _training_cost(unit: TargetUnit, divisor: int) -> tuple[Target, Cost]:
    watch = _Stopwatch(unit.device)
    begin = now(unit.device)
    trained = train_target(unit, checkpoint=watch)
    around = now(unit.device).minus(begin).minus(watch.measured)
    return trained, around.plus(watch.whole.times(divisor))


def _shadow_cost(unit: ProbeUnit) -> tuple[Cost, int, Cost]:
    """One shadow model's cost, how far all sets must be thinned for the probe to end in time, and what the first took.

    From two trainings of different length: what an epoch costs, and what comes but once a model. The first training
    of a process takes longer than the same once more: torch imports its compiler for the first optimizer.
    """
    shadow = unit.shadow
    if shadow.engine == "serial":
        shadow = dataclasses.replace(shadow, shadows=shadow.shadows[:2])
    # a first look, which also warms up: on as few examples as make two batches a model
    smallest = max(1, len(shadow.pool) // (4 * shadow.train.batch_size))
    thinned = _fewer_examples(shadow, smallest)
    first, again = _run(thinned, 1), _run(thinned, 1)
    epoch = _run(thinned, 2).minus(again).seconds * smallest / len(shadow.shadows)
    wanted = epoch * (2 * len(shadow.shadows) + EPOCHS_OF_A_METHOD * len(unit.targets)) / unit.seconds
    divisor = min(max(1, math.ceil(wanted)), smallest, max(1, len(unit.targets[0].draw.forget) // 2))
    thinned = _fewer_examples(shadow, divisor)
    room = 0.25 * unit.seconds / max(epoch * len(shadow.shadows) / divisor, 1e-9)
    more = min(max(2, int(room)), max(2, shadow.train.epochs), 12)
    short, long = _run(thinned, 1), _run(thinned, more)
    each = long.minus(short).times(1 / (more - 1))
    once = short.minus(each)
    cost = each.times(shadow.train.epochs).plus(once).times(divisor / len(shadow.shadows))
    return cost, divisor, first.minus(again)


def _run(shadow: ShadowUnit, epochs: int) -> Cost:
    shadow = dataclasses.replace(shadow, train=dataclasses.replace(shadow.train, epochs=epochs))
    begin = now(shadow.device)
    train_unit(shadow)
    return now(shadow.device).minus(begin)


def _fewer_examples(shadow: ShadowUnit, divisor: int) -> ShadowUnit:
    pool = shadow.pool[::divisor]
    return dataclasses.replace(shadow, pool=pool[: len(pool) // 2 * 2])


def _thinned(unit: TargetUnit, divisor: int) -> TargetUnit:
    """Smaller sets; UnGAN's steps a round, which are whole numbers, are thinned from what they are at full size."""
    draw = dataclasses.replace(unit.draw, retain=unit.draw.retain[::divisor], forget=unit.draw.forget[::divisor])
    split = dataclasses.replace(unit.split, unseen=unit.split.unseen[::divisor])
    config = unit.method_config
    if isinstance(config, UnGANConfig) and divisor > 1:
        batch_size = config.batch_size or unit.train.batch_size
        turns = turns_of(
            config, num_retain=len(unit.draw.retain), num_forget=len(unit.draw.forget), batch_size=batch_size
        )
        config = dataclasses.replace(
            config,
            inclusive_loops=False,
            epochs=turns.rounds,
            critic_steps=_fewer(turns.critic, divisor),
            generator_steps=_fewer(turns.generator, divisor),
            finetune_steps=_fewer(turns.fine_tuning, divisor),
        )
    return dataclasses.replace(unit, draw=draw, split=split, method_config=config)


def _fewer(steps: int, divisor: int) -> int:
    return max(1, round(steps / divisor)) if steps else 0


def _asked_less(unit: TargetUnit, divisor: int) -> TargetUnit:
    split = dataclasses.replace(unit.split, pool=unit.split.pool[::divisor], test=unit.split.test[::divisor])
    return dataclasses.replace(unit, split=split)


def _peak_memory() -> int:
    """The most physical memory that this process has held, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
