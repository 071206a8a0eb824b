"""The experiment on one page: split, train originals and shadow models, unlearn, score, report."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

from ungan_dist.attack.evidence import Report
from ungan_dist.attack.verdicts import VERDICT_LEVEL
from ungan_dist.config.audit import AuditConfig
from ungan_dist.errors import STORAGE_FULL, ConfigError, Unfinished
from ungan_dist.runs import progress
from ungan_dist.runs.failures import (
    failure_marker,
    is_outdated,
    read_failure,
    remove_failure,
    sort_out_absent,
    write_failure,
)
from ungan_dist.runs.finished import fingerprint_inputs, record_finished
from ungan_dist.runs.folder import open_run
from ungan_dist.runs.forecast import engines, outlook
from ungan_dist.runs.kernel_choice import choice
from ungan_dist.runs.looks import LookRequest, describe_beginning, record_look, state_looks
from ungan_dist.runs.operations import units_per_gpu
from ungan_dist.runs.plan import Plan, split_blocks
from ungan_dist.runs.pool import LocalPool, num_processes
from ungan_dist.runs.rehearsal import process
from ungan_dist.runs.rehearsal.process import RunOnce, run_here
from ungan_dist.runs.reporting import build_report, report_on_interrupt, write_report
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.status import RunState, record_failure, record_progress, write_status
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.storage.remote import publish_status, push_results, withdraw_failure
from ungan_dist.runs.storage.workers import find_full_folder
from ungan_dist.runs.units import Done, Failed, RunUnits, Unit, Working, is_done, kind_of
from ungan_dist.runs.unlearned_shadows import find_missing_weights

OnResult = Callable[[Unit], None]
"""Called with each unit whose result was committed."""


def refuse_processes(config: AuditConfig) -> ConfigError:
    """Return the error of data-parallel processes in the local pool."""
    return ConfigError(
        f"train.num_workers {config.train.num_workers} needs processes that communicate, which the local pool "
        f"lacks: add --cluster auto; or train the targets by torchrun --nproc-per-node "
        f"{config.train.num_workers} -m ungan_dist targets {config.name}, then run without --train.num-workers"
    )


def audit(
    config: AuditConfig,
    *,
    run_units: RunUnits | None = None,
    device: str | None = None,
    on_progress: progress.ProgressCallback = progress.silent,
    mirror: Mirror | None = None,
    run_once: RunOnce = run_here,
    judge_everywhere: choice.JudgeEverywhere = choice.run_here,
    share_gpus: Callable[[int], None] | None = None,
    on_result: OnResult | None = None,
    look: LookRequest | None = None,
) -> Report:
    """Train, unlearn, attack and report; results of an earlier run of the same config are kept.

    Args:
        config: The config of a recipe, changed as needed.
        run_units: Executes the units; defaults to a local process pool.
        device: Device of the units, ``cpu`` or ``cuda``; defaults to what this machine has.
        on_progress: Called with each progress event.
        mirror: Object storage to synchronise with the output folder; defaults to the folder alone.
        run_once: Calls a function where units are computed; defaults to this machine.
        judge_everywhere: Calls the self-check of kernels on every kind of GPU; defaults to this machine's.
        share_gpus: Called before the units, with the number of them that a GPU takes at once.
        on_result: Called with each unit whose result was just committed.
        look: The look that this audit is; defaults to none.

    Raises:
        ConfigError: The config or the input is wrong, or all originals or shadow models fail and would fail again.
        Unfinished: Storage is full or unreachable, or too little succeeded for a report; run again to continue.
    """
    if run_units is None and config.train.num_workers > 1:
        raise refuse_processes(config)
    inputs = fingerprint_inputs(config)
    # split: the plan holds every set, drawn before anything is trained
    rehearse = functools.partial(process.rehearse, run_once=run_once, on_progress=on_progress)
    settle_kernels = functools.partial(
        choice.settle_kernels, judge_everywhere=judge_everywhere, on_progress=on_progress
    )
    settle = functools.partial(
        engines.settle_plan, settle_kernels=settle_kernels, run_once=run_once, on_progress=on_progress
    )
    with (
        open_run(config, device=device, mirror=mirror, rehearse=rehearse, settle=settle) as plan,
        record_failure(plan.report_folder),
    ):
        if look is not None:
            state_looks(plan, look)
            on_progress(progress.remark("until decided", describe_beginning(plan, look)))
        _drop_failures(plan, mirror, outdated_only=not config.execution.retry_failed)
        if sort_out_absent(plan.folder, plan.units)[1]:
            on_progress = _start(plan, on_progress, mirror, look)
        with report_on_interrupt(plan):
            # train, shadow, unlearn
            if share_gpus is not None:
                share_gpus(units_per_gpu(plan.record))
            plan, failures = _compute(plan, run_units, on_progress, mirror, on_result)
        # score, report
        report = build_report(plan, failures, on_progress)
        report = report if look is None else record_look(plan, report, look)
        write_report(plan, report)
        failed = [failure.sentence for failure in report.failures]
        write_status(plan.report_folder, report.status, missing=report.missing, failed=failed)
        record_finished(plan, config, report, inputs)
    return report


def _start(
    plan: Plan, on_progress: progress.ProgressCallback, mirror: Mirror | None, look: LookRequest | None
) -> progress.ProgressCallback:
    """Mark the run as running and show what it can conclude at most."""
    write_status(plan.report_folder, RunState.RUNNING)
    on_progress = record_progress(plan.report_folder, on_progress)
    found = outlook.make_outlook(plan, level=VERDICT_LEVEL if look is None else look.level)
    has_more = look is not None and not look.is_last
    work, power = outlook.summary_lines(found, has_more_looks=has_more)
    on_progress(progress.remark("plan", work))
    is_weak = found.is_quick or found.power.smallest_delta > found.delta
    on_progress(progress.remark("plan", power, is_warning=is_weak and not has_more))
    for warning in found.warnings if look is None or not look.index else ():
        on_progress(progress.remark("plan", warning, is_warning=True))
    if mirror is not None:
        publish_status(mirror, plan)
    return on_progress


def _drop_failures(plan: Plan, mirror: Mirror | None, *, outdated_only: bool) -> None:
    """Remove recorded failures whose units are to be tried again."""
    for unit in plan.units:
        if read_failure(plan.folder, unit) and (not outdated_only or is_outdated(plan.folder, unit)):
            if mirror is not None:
                withdraw_failure(mirror, plan.folder, unit)
            remove_failure(plan.folder, unit)


def _compute(
    plan: Plan,
    run_units: RunUnits | None,
    on_progress: progress.ProgressCallback,
    mirror: Mirror | None,
    on_result: OnResult | None,
) -> tuple[Plan, list[Failed]]:
    """Run every unit without a valid result: originals and shadow models first, then unlearning from the originals.

    Returns:
        The plan, with smaller blocks of shadow models where memory ran out, and the failures.
    """
    with contextlib.ExitStack() as stack:
        if run_units is None:
            size = num_processes(plan.record.config.execution.num_processes, units_per_gpu(plan.record))
            run_units = stack.enter_context(LocalPool(size)).run_units
        if mirror is not None:
            run_units = push_results(mirror, run_units)
        if on_result is not None:
            run_units = functools.partial(_announce_results, run_units, on_result)
        failures = _run("original, shadows", [*plan.originals, *plan.shadows], run_units, on_progress, plan, mirror)
        too_large = {failure.unit.id for failure in failures if _can_be_smaller(failure)}
        if too_large:
            failures = [failure for failure in failures if failure.unit.id not in too_large]
            plan = split_blocks(plan, too_large)
            failures += _run("smaller blocks", plan.shadows, run_units, on_progress, plan, mirror)
        ready = {unit.seed for unit in plan.originals if is_done(unit)}
        unlearning = [unit for unit in plan.unlearning if unit.seed in ready]
        failures += _run("unlearning", unlearning, run_units, on_progress, plan, mirror)
        failures += _unlearn_shadows(plan, run_units, on_progress, mirror)
    return plan, failures


def _announce_results(
    run_units: RunUnits, on_result: OnResult, units: Sequence[Unit]
) -> Iterator[Done | Failed | Working]:
    for outcome in run_units(units):
        if isinstance(outcome, Done):
            on_result(outcome.unit)
        yield outcome


def _unlearn_shadows(
    plan: Plan, run_units: RunUnits, on_progress: progress.ProgressCallback, mirror: Mirror | None
) -> list[Failed]:
    """Unlearn the shadow models of every method that has a result, after training again those without weights."""
    ready = {unit.id for unit in (*plan.unlearning, *plan.shadows) if is_done(unit)}
    units = [unit for unit in plan.unlearned_shadows if {unit.target.id, unit.shadow.id} <= ready]
    again = find_missing_weights(unit for unit in units if not is_done(unit))
    failures: list[Failed] = []
    if again:
        num_models = sum(unit.num_models for unit in again)
        on_progress(
            progress.remark(
                "shadow weights",
                f"{num_models} shadow models were trained without keeping their weights and are trained again; their "
                f"log-odds stay as they are",
            )
        )
        failures += _run("shadow weights", again, run_units, on_progress, plan, mirror)
    without = {unit.id for unit in find_missing_weights(unit for unit in units if not is_done(unit))}
    units = [unit for unit in units if unit.shadow.id not in without]
    return failures + (_run("unlearned shadows", units, run_units, on_progress, plan, mirror) if units else [])


def _can_be_smaller(failure: Failed) -> bool:
    return failure.kind == "out_of_memory" and isinstance(failure.unit, ShadowUnit) and failure.unit.num_models > 2


def _run(
    stage_name: str,
    units: Sequence[Unit],
    run_units: RunUnits,
    on_progress: progress.ProgressCallback,
    plan: Plan,
    mirror: Mirror | None,
) -> list[Failed]:
    todo = [] if _no_original_works(plan) else sort_out_absent(plan.folder, units)[1]
    total = sum(unit.num_models for unit in units)
    stage = progress.Stage(stage_name, total, on_progress, done=total - sum(unit.num_models for unit in todo))
    failures: list[Failed] = []
    for outcome in run_units(todo) if todo else ():
        if isinstance(outcome, Working):
            stage.advance_within(outcome.unit.id, outcome.models, outcome.note, kind=kind_of(outcome.unit))
        elif isinstance(outcome, Failed):
            write_failure(plan.folder, outcome)
            if mirror is not None and outcome.is_final:
                mirror.push(plan.folder.name, failure_marker(outcome.unit))
            if outcome.kind == "storage_full":
                raise Unfinished(STORAGE_FULL.format(folder=find_full_folder(outcome.error) or plan.folder))
            failures.append(outcome)
            word = "diverged" if outcome.kind == "diverged" else "failed"
            stage.advance(0, note=f"{word}: {outcome.unit.title}", unit=outcome.unit.id, kind=kind_of(outcome.unit))
            if outcome.is_final and _no_original_works(plan):
                break  # there is nothing to unlearn from
        else:
            unit = outcome.unit
            stage.advance(unit.num_models, note=unit.title, unit=unit.id, kind=kind_of(unit))
    return failures


def _no_original_works(plan: Plan) -> bool:
    return all(read_failure(plan.folder, unit) is not None for unit in plan.originals)
