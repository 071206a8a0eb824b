"""Choose a run's examples for its rehearsal, and perform it in a process of its own on the machine that computes."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ungan_dist.config.audit import method_config
from ungan_dist.config.methods import UnlearnedConfig
from ungan_dist.config.run_model import find_run_model
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.runs.failures import sort_out_absent
from ungan_dist.runs.operations import fused_operations
from ungan_dist.runs.plan import Plan
from ungan_dist.runs.progress import ProgressCallback, remark, silent
from ungan_dist.runs.rehearsal.perform import BUILDING, Findings, Rehearsal, perform
from ungan_dist.training.given_weights import GivenWeights
from ungan_dist.training.optimizers import import_compiler
from ungan_dist.training.probing import BUILD_LIMIT_S
from ungan_dist.training.rehearsal.evaluation import MAX_EXAMPLES
from ungan_dist.training.rehearsal.steps import MAX_BATCH
from ungan_dist.worker_process import CallFailed, WorkerDied, WorkerProcess

MAX_BYTES = 8 * 2**20
"""Most bytes of pixels in a rehearsal's examples."""
SILENCE_S = 120.0
"""A rehearsal is ended if one of its steps takes longer."""


RunOnce = Callable[[Callable[[Any], Any], Any], Any]
"""Calls a function with its argument on a machine that computes units."""


def run_here(function: Callable[[Any], Any], argument: Any) -> Any:
    """Call a function on this machine."""
    return function(argument)


def needs_rehearsal(plan: Plan) -> bool:
    """Return whether a plan has a user's model, weights or function, and results are missing."""
    config = plan.record.config
    given = config.given
    own = (config.model.factory, config.own_methods, config.train.has_own_code)
    file = given.original if find_run_model(given.original) is None else None  # a model of a run works
    brought = (*own, file, given.unlearned, given.retrained)
    return any(brought) and bool(sort_out_absent(plan.folder, plan.units)[1])


def rehearse(
    plan: Plan,
    run_once: RunOnce = run_here,
    on_progress: ProgressCallback = silent,
    *,
    limit_s: float | None = None,
) -> tuple[str, ...]:
    """Rehearse a plan with a user's model, weights or method, unless all its results exist.

    Args:
        run_once: Calls a function where units are computed; defaults to this machine.
        on_progress: Called with what was tried.
        limit_s: Seconds after which the rehearsal is cut short, and a note says so; defaults to no limit.

    Returns:
        Notes on the model for the report; empty if nothing was rehearsed.

    Raises:
        ConfigError: The run would fail, or its results would be noise.
        Unfinished: No worker of the cluster was free in time.
    """
    if not needs_rehearsal(plan):
        return ()
    on_progress(remark("rehearsal", "every step of the run is tried on a few examples"))
    try:
        findings = run_once(rehearse_in_process, dataclasses.replace(make_rehearsal(plan), limit_s=limit_s))
    except TimeoutError as error:
        raise Unfinished(
            "no worker rehearsed the run in time: other jobs may hold the cluster, see `ray status`; run again"
        ) from error
    if findings.error:
        raise ConfigError(findings.error)
    for note in findings.notes:
        on_progress(remark("rehearsal", note, is_warning=True))
    on_progress(remark("rehearsal", findings.summary))
    return findings.notes


def make_rehearsal(plan: Plan) -> Rehearsal:
    """Choose examples from every set of a run."""
    config, source, unit = plan.record.config, plan.source, plan.originals[0]
    pool, draw = plan.split.pool, plan.draws[0]
    sets = {
        "forget": pool[draw.forget],
        "retain": pool[draw.retain],
        "unseen": plan.split.unseen,
        "non_members": pool[np.concatenate([draw.non_members, draw.others])],
        "test": plan.split.test,
    }
    bytes_each = int(source.images[0].nbytes)
    number = min(MAX_EXAMPLES, max(2 * MAX_BATCH * len(sets), MAX_BYTES // bytes_each)) // len(sets)
    some = {name: _spread(indices, number) for name, indices in sets.items()}
    chosen = np.concatenate(list(some.values()))
    ends = np.cumsum([len(indices) for indices in some.values()])
    places = {name: np.arange(end - len(some[name]), end) for name, end in zip(some, ends, strict=True)}
    others = [target.method_config for target in plan.unlearning if isinstance(target.method_config, UnlearnedConfig)]
    return Rehearsal(
        model=config.model,
        train=config.train,
        methods={
            method: settings
            for method in config.methods
            if not isinstance(settings := method_config(config, method), UnlearnedConfig)
        },
        given=(
            *((unit.given_original,) if unit.given_original else ()),
            *(GivenWeights(path=one.weights, sha256=one.sha256, key=one.key) for one in others),
        ),
        images=np.ascontiguousarray(source.images[chosen]),
        labels=source.labels[chosen].astype(np.int64),
        mean=tuple(source.mean),
        std=tuple(source.std),
        num_classes=source.num_classes,
        sets=places,
        set_sizes={name: len(indices) for name, indices in sets.items()} | {"pool": len(pool)},
        engine=str(plan.record.resolved["engine"]),
        device=str(plan.record.resolved["device"]),
        fused=fused_operations(plan.record.resolved),
        code=unit.code,
    )


def _spread(indices: Int[np.ndarray, " set"], number: int) -> Int[np.ndarray, " some"]:
    """Take evenly spaced examples of a set."""
    return indices[np.linspace(0, max(len(indices) - 1, 0), min(number, len(indices))).round().astype(np.int64)]


def rehearse_in_process(rehearsal: Rehearsal) -> Findings:
    """Perform a rehearsal in a new process, and end it if it hangs or reaches its limit.

    What kills the process is a finding.
    """
    with tempfile.TemporaryDirectory(prefix="ungan-dist-rehearsal-") as folder:
        stage = Path(folder) / "stage"
        worker = WorkerProcess()
        try:
            worker.call(_perform_in, Path(folder), rehearsal, stage)
            last, since, began = "", time.monotonic(), None
            while not worker.connection.poll(0.2):
                if began is None and stage.exists():
                    began = time.monotonic()
                now = _read_stage(stage)
                most = rehearsal.limit_s
                if most is not None and began is not None and time.monotonic() - began > most:
                    return Findings(summary=f"cut short after {most:g} s, at: {now}. `run` rehearses every step")
                if now != last:
                    last, since = now, time.monotonic()
                limit = BUILD_LIMIT_S if last == BUILDING else SILENCE_S
                if time.monotonic() - since > limit:
                    return Findings(
                        error=f"the rehearsal of the model did not go on within {limit:.0f} s, at: {last}. The model "
                        f"is too slow for this device, or its code waits for something"
                    )
            return worker.receive()
        except WorkerDied as error:
            return Findings(
                error=f"{error} when the model was rehearsed, at: {_read_stage(stage)}. The run would end in the same "
                f"way: use a smaller model or batch if memory ran out, and leave out what ends the process"
            )
        except CallFailed as error:
            return Findings(error=f"the rehearsal of the model failed at: {_read_stage(stage)}. {error}")
        finally:
            worker.stop()


def _perform_in(folder: Path, rehearsal: Rehearsal, stage: Path) -> Findings:
    tempfile.tempdir = str(folder)  # a killed process removes no files
    import_compiler(rehearsal.code)
    return perform(rehearsal, stage)


def _read_stage(file: Path) -> str:
    return file.read_text() if file.exists() else BUILDING
