"""Units of work, executed by a process of a pool or an actor of a cluster, and their outcomes."""

from __future__ import annotations

import contextlib
import errno
import functools
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ungan_dist import store
from ungan_dist.data.prepared import open_examples
from ungan_dist.errors import Diverged, OtherGPU
from ungan_dist.runs.evaluation import evaluate_target
from ungan_dist.runs.operations import describe_gpu
from ungan_dist.runs.progress import Kind
from ungan_dist.runs.shadows import Shadows, ShadowUnit, evaluate_shadows, train_shadows
from ungan_dist.runs.targets import SETS, Target, TargetUnit, train_target
from ungan_dist.runs.unlearned_shadows import UnlearnedShadows, UnlearnedShadowUnit, unlearn_shadows
from ungan_dist.runs.versions import describe_cpu, find_commit, versions
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.guard import guarded
from ungan_dist.training.weights import weights_bytes
from ungan_dist.training.world import SINGLE_PROCESS, World

Unit = ShadowUnit | TargetUnit | UnlearnedShadowUnit

FailureKind = Literal["failed", "diverged", "out_of_memory", "storage_full", "error"]
"""``failed`` and ``diverged`` repeat in every run; the others may not."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """Outcome of a unit whose result was committed."""

    unit: Any
    """The :data:`Unit`, or another unit of a fleet."""
    kind: Literal["done"] = "done"
    error: str = ""
    traceback: str = ""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Outcome of a unit that raised, or whose process died too often."""

    unit: Any
    """The :data:`Unit`, or another unit of a fleet."""
    error: str
    """The reason, in one sentence."""
    kind: FailureKind = "error"
    traceback: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the unit would fail again: the error comes from the user's code, a method or a diverged model."""
        return self.kind in ("failed", "diverged")


@dataclass(frozen=True, kw_only=True)
class Working:
    """Progress within a unit."""

    unit: Any
    """The :data:`Unit`, or another unit of a fleet."""
    models: float
    """Models trained so far, with the finished part of the one in training."""
    note: str
    """The model in training and its epoch."""
    kind: Literal["working"] = "working"


RunUnits = Callable[[Sequence[Unit]], Iterator[Done | Failed | Working]]
"""Executes units and yields their outcomes in any order; implemented by the pool and by the fleet."""
OnProgress = Callable[[float, str], None]
"""Called within a unit with the number of models trained so far, and with a note: see :class:`Working`."""
PROGRESS_INTERVAL_S = 1.0
"""Least seconds between two calls."""


def no_progress(models: float, note: str) -> None:
    """Ignore progress within a unit."""
    del models, note


def kind_of(unit: Unit) -> Kind:
    """Return the kind of a unit, for its progress."""
    if isinstance(unit, UnlearnedShadowUnit):
        return "unlearned shadow models"
    if isinstance(unit, ShadowUnit):
        return "shadow models"
    return "original" if unit.method == "original" else "unlearning"


def is_done(unit: Unit) -> bool:
    """Return whether a valid committed result exists; nothing else counts as done."""
    return read_facts(unit) is not None


def read_facts(unit: Unit) -> dict[str, Any] | None:
    """Return the facts of a unit's valid committed result, or ``None``."""
    facts = store.committed(root_of(unit), unit.marker, id=unit.id, files=unit.files)
    return facts if facts is not None and _are_facts(unit, facts) else None


def _are_facts(unit: Unit, facts: dict[str, Any]) -> bool:
    """Check the facts that a report needs: early markers have no hash over them."""
    try:
        if not all(isinstance(version, str) for version in dict(facts.get("versions", {})).values()):
            return False
        if not isinstance(unit, TargetUnit):
            return True
        accuracies = [facts["accuracy"][name] for name in SETS]
        curves = [value for curve in facts["curves"].values() for value in curve]
        return all(isinstance(value, (int, float)) for value in (*accuracies, *curves, facts["unlearning_seconds"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def root_of(unit: Unit) -> Path:
    """Return the folder of a unit's files: the run's, or for shadow models the output folder of all runs."""
    return Path(unit.prepared.output if isinstance(unit, ShadowUnit) else unit.run)


def missing(units: Iterable[Unit]) -> list[Unit]:
    """Return the units without a valid result."""
    return [unit for unit in units if not is_done(unit)]


CHECKPOINT_INTERVAL_S = 30.0
"""Seconds between two checkpoints of a training by one process; a kill costs this much and one epoch at most."""


def execute(unit: Unit, on_progress: OnProgress = no_progress) -> Done | Failed:
    """Compute a unit and commit its result; runs in a worker.

    Continues from the checkpoint of an earlier attempt, also of one by several processes.
    """

    checkpoints = _open_checkpoints(
        unit, SINGLE_PROCESS, every_s=CHECKPOINT_INTERVAL_S, on_progress=_limit_rate(on_progress)
    )
    outcome = _outcome(
        unit, lambda: _commit(unit, _train(unit, SINGLE_PROCESS, checkpoints), SINGLE_PROCESS, checkpoints)
    )
    if isinstance(outcome, Failed) and outcome.is_final:
        for checkpoint in checkpoints:  # another attempt, with mended code, starts anew
            checkpoint.remove()
    return outcome


def execute_together(units: Iterable[Unit], world: World) -> Iterator[Done | Failed]:
    """Compute units one after the other, each by all processes of a world; rank 0 evaluates and commits.

    A checkpoint is written after each epoch, from which any number of processes can continue. An exception during
    training ends its process; torchrun or Ray Train then ends the others, which would wait for it.
    """
    for unit in units:
        checkpoints = _open_checkpoints(unit, world)
        if world.broadcast(world.rank == 0 and is_done(unit)):
            for checkpoint in checkpoints:  # a process was killed between commit and removal
                checkpoint.remove()
            yield Done(unit=unit)
            continue
        if world.size == 1:
            yield execute(unit)
            continue
        commit = functools.partial(_commit, unit, _train(unit, world, checkpoints), world, checkpoints)
        yield world.broadcast(_outcome(unit, commit) if world.rank == 0 else None)


def _open_checkpoints(
    unit: Unit, world: World, *, every_s: float = 0.0, on_progress: OnProgress = no_progress
) -> list[Checkpoint]:
    def report(index: int, epoch: int, num_epochs: int) -> None:
        models, title = 0.0, unit.title  # a method has stages of unknown length
        if isinstance(unit, ShadowUnit):
            models = (index + epoch / num_epochs) * len(unit.shadows) / len(unit.checkpoints)
            title = f"shadow model {unit.shadows[index]}" if len(unit.checkpoints) > 1 else unit.title
        elif isinstance(unit, UnlearnedShadowUnit):
            models = float(index)
        on_progress(models, f"{title}: epoch {epoch} of {num_epochs}")

    return [
        Checkpoint(
            root_of(unit), name, id=unit.id, world=world, every_s=every_s, on_epoch=functools.partial(report, index)
        )
        for index, name in enumerate(unit.checkpoints)
    ]


def _limit_rate(on_progress: OnProgress) -> OnProgress:
    last = time.monotonic()

    def limited(models: float, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PROGRESS_INTERVAL_S:
            last = time.monotonic()
            on_progress(models, note)

    return limited


def _train(unit: Unit, world: World, checkpoints: list[Checkpoint]) -> Shadows | Target | UnlearnedShadows:
    _refuse_other_gpu(unit.target if isinstance(unit, UnlearnedShadowUnit) else unit, world)
    with _guard(unit, world):
        if isinstance(unit, UnlearnedShadowUnit):
            assert world.size == 1, "shadow models unlearn in a single process"
            return unlearn_shadows(unit, checkpoints)
        if isinstance(unit, ShadowUnit):
            return train_shadows(unit, world, checkpoints)
        return train_target(unit, world, *checkpoints)


def _guard(unit: Unit, world: World) -> contextlib.AbstractContextManager[None]:
    """Guard the data and the process from the user's model, training function and augmentation, if there are any."""
    target = unit.target if isinstance(unit, UnlearnedShadowUnit) else unit
    names = [target.model.factory, target.train.function, target.train.augment.factory]
    if not any(names):
        return contextlib.nullcontext()
    data = open_examples(target.prepared, target.device if world.size == 1 else str(world.device), target.fused)
    # the rehearsal lets a model set what makes it faster
    return guarded(" or ".join(filter(None, names)), data, notes=[] if target.model.factory else None)


def _refuse_other_gpu(unit: ShadowUnit | TargetUnit, world: World) -> None:
    """Refuse a GPU of another kind than the unit's fused kernels were judged on."""
    if not unit.fused or unit.device != "cuda":
        return
    found = describe_gpu(world.device.index if world.size > 1 else None)
    if found not in unit.judged_on:
        raise OtherGPU(
            f"this worker has {found}, and the kernels of the run were checked on {', '.join(unit.judged_on)}: use "
            f"workers with that GPU, or run anew with --execution.kernels reference and another --execution.run-name"
        )


def _commit(
    unit: Unit, trained: Shadows | Target | UnlearnedShadows, world: World, checkpoints: list[Checkpoint]
) -> None:
    """Evaluate the trained models, commit the result and remove its checkpoints."""
    with _guard(unit, world):
        files, facts = _evaluate(unit, trained)
    train = unit.target.train if isinstance(unit, UnlearnedShadowUnit) else unit.train
    found = versions() | {"precision": train.precision, "memory format": train.memory_format}
    found["CPU"] = describe_cpu()
    if commit := find_commit():
        found["commit"] = commit
    store.commit(root_of(unit), unit.marker, id=unit.id, files=files, facts={**facts, "versions": found})
    for checkpoint in checkpoints:
        checkpoint.remove()


def _evaluate(unit: Unit, trained: Shadows | Target | UnlearnedShadows) -> tuple[dict[str, bytes], dict[str, Any]]:
    if isinstance(unit, ShadowUnit):
        assert isinstance(trained, Shadows)
        files: dict[str, bytes] = {}
        if not unit.weights_only:
            files[unit.log_odds_file] = store.array_bytes(evaluate_shadows(unit, trained))
        if unit.keep_models or unit.weights_only:
            for shadow, model in zip(unit.shadows, trained.models, strict=True):
                files[unit.weights_file(shadow)] = weights_bytes(model)
        # a purge identifies the result by the data's hash once no plan contains it
        facts: dict[str, Any] = {"shadows": list(unit.shadows), "data": unit.prepared.data_hash}
    elif isinstance(unit, UnlearnedShadowUnit):
        assert isinstance(trained, UnlearnedShadows)
        files = {unit.log_odds_file: store.array_bytes(trained.log_odds)}
        facts = {"shadows": list(unit.shadows), "unlearning_seconds": trained.seconds}
    else:
        assert isinstance(trained, Target)
        files, facts = evaluate_target(unit, trained)
    return files, facts


def _outcome(unit: Unit, compute: Callable[[], None]) -> Done | Failed:
    try:
        compute()
    except (Exception, SystemExit) as error:  # any exception is the outcome of its unit; the other units go on
        return failure_of(unit, error)
    return Done(unit=unit)


MAX_REASON = 400
"""Characters of a failure's reason; the traceback has all of them."""


def failure_of(unit: Any, error: BaseException) -> Failed:
    """Return the outcome of a unit that raised, with the reason in one sentence and its kind."""
    words = " ".join(str(error).split())
    reason = words if isinstance(error, Diverged) else f"{type(error).__name__}: {words}" if words else repr(error)
    if len(reason) > MAX_REASON:
        reason = f"{reason[:MAX_REASON]}…"
    text = "".join(traceback.format_exception(error))
    return Failed(unit=unit, error=reason, kind=classify(error), traceback=text)


_DEVICE_OR_NETWORK = ("CUDA error", "CUDNN_", "cuDNN error", "CUBLAS_", "NCCL", "gloo", "Connection closed by peer")


def classify(error: BaseException) -> FailureKind:
    """Classify an exception by its causes: what a rerun may change, and what would fail again.

    Files, imports and devices may be repaired outside the run. All other exceptions come from code, and repeat.
    """
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and cause not in causes:
        causes.append(cause)
    for one in causes:
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT):
            return "storage_full"
        # the CPU's allocator raises a plain RuntimeError
        if isinstance(one, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(one):
            return "out_of_memory"
    if any(isinstance(one, Diverged) for one in causes):
        return "diverged"
    repairable = (OSError, ImportError, store.CorruptResult, OtherGPU)
    if any(isinstance(one, repairable) or any(word in str(one) for word in _DEVICE_OR_NETWORK) for one in causes):
        return "error"
    return "failed"
