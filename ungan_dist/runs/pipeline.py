"""The experiment on one page: split → train → unlearn → shadow → score → report."""

from __future__ import annotations

import contextlib
import errno
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from ungan_dist import store
from ungan_dist.attack.evidence import Report
from ungan_dist.config.audit import AuditConfig
from ungan_dist.data.prepared import prepare
from ungan_dist.data.split import hash_array
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.report import render
from ungan_dist.runs import progress
from ungan_dist.runs.forecast import outlook
from ungan_dist.runs.plan import Plan, in_smaller_blocks, make_plan
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.record import RunRecord, extend_config, find_changes, write_record
from ungan_dist.runs.reporting import build_report
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.status import record_failure, record_progress, write_status
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.storage.remote import fetch_record, publish_status, push_results, synchronised_run
from ungan_dist.runs.units import Failed, RunUnits, Unit, is_done, missing


def audit(
    config: AuditConfig,
    *,
    run_units: RunUnits | None = None,
    device: str | None = None,
    on_progress: progress.ProgressCallback = progress.silent,
    mirror: Mirror | None = None,
) -> Report:
    """Trains, unlearns, attacks and reports; what a run of the same config has done before is not done again.

    Args:
        config: a recipe's, changed as wanted.
        run_units: who computes units; none: a pool of local processes.
        device: what they are computed on, ``cpu`` or ``cuda``; none: what this machine has.
        on_progress: told of every step forward.
        mirror: object storage that the output folder is kept in step with; none: the folder is all there is.

    Raises:
        ConfigError: wrong config or input; nothing was computed.
        Unfinished: storage is full or out of reach, or too little succeeded for a report; run again to continue.
    """
    if run_units is None and config.train.num_workers > 1:
        raise ConfigError(
            f"train.num_workers {config.train.num_workers} needs processes that know each other, which the local "
            f"pool's do not: add --cluster auto; or train the targets by torchrun --nproc-per-node "
            f"{config.train.num_workers} -m ungan_dist targets {config.name}, then run without --train.num-workers"
        )
    with open_run(config, device=device, mirror=mirror) as plan, record_failure(plan.folder):
        if missing([*plan.targets, *plan.shadows]):
            write_status(plan.folder, "RUNNING")
            on_progress = record_progress(plan.folder, on_progress)
            for line in outlook.summary_lines(outlook.make_outlook(plan)):
                on_progress(progress.remark("plan", line))
            if mirror is not None:
                publish_status(mirror, plan)
        with _partial_report(plan):
            plan, failures = _compute(plan, run_units, on_progress, mirror)
        report = build_report(plan, failures, on_progress)
        _write(plan, report)
        write_status(plan.folder, report.status, missing=report.missing)
    return report


@contextlib.contextmanager
def open_run(config: AuditConfig, *, device: str | None = None, mirror: Mirror | None = None) -> Iterator[Plan]:
    """The plan of a run whose folder is this process's alone, with its record, data and membership in place.

    Raises:
        ConfigError: wrong config or input, or a folder that belongs to another run or process.
    """
    plan = make_plan(config, device=device)
    if mirror is not None:
        fetch_record(mirror, plan.folder.name)
    longer = extend_config(config, plan.folder, plan.record)
    plan = plan if longer == config else make_plan(longer, device=device)
    with _writable(plan.folder), store.run_lock(plan.folder):
        store.remove_temporary_files(plan.folder)
        write_record(plan.folder, plan.record)
        for note in plan.notes:
            warnings.warn(note, stacklevel=2)
        prepare(plan.source, plan.folder.parent, loader=plan.originals[0].prepared.loader)
        _store_membership(plan)
        if mirror is None:
            yield plan
            return
        with synchronised_run(mirror, plan) as plan:
            yield plan


@contextlib.contextmanager
def _partial_report(plan: Plan) -> Iterator[None]:
    """An interrupted run leaves the report of what it has."""
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(Unfinished, OSError):
            _write(plan, build_report(plan, [], progress.silent))
        raise


def report_of(record: RunRecord, *, on_progress: progress.ProgressCallback = progress.silent) -> tuple[Report, Path]:
    """The report of what a run has committed so far, written anew; nothing is trained.

    The run may have been computed elsewhere: what was resolved there, such as the device, holds here too.

    Raises:
        ConfigError: data, lists or weights that cannot be read any more, or are not those that the run was made from.
        Unfinished: too little was committed for a report.
    """
    try:
        plan = make_plan(record.config, resolved=record.resolved)
    except ConfigError as error:
        raise ConfigError(f"{error}. A report needs what the run was made from: put it back") from error
    if found := find_changes(record, plan.record):
        lists = ", ".join(str(path) for path in vars(record.config.given).values() if path is not None)
        where = f" ({lists})" if lists and plan.source.content_hash == record.data_hash else ""
        raise ConfigError(f"{plan.folder}: {found[0]}{where}: put it back, or run anew with what there is now")
    with _writable(plan.folder), store.run_lock(plan.folder):
        report = build_report(plan, [], on_progress)
        _write(plan, report)
    return report, plan.folder


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Turns what a file system refuses into what its user can do about it."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unfinished(_FULL.format(folder=folder)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise ConfigError(f"cannot write to {folder} ({error.strerror}): choose another --output") from error
        if isinstance(error, BlockingIOError):
            raise ConfigError(str(error)) from error
        raise


_FULL = "no space left for {folder}: free some and run the same command again; what was committed is kept"


def _store_membership(plan: Plan) -> None:
    """Fixed, hashed and stored before any training."""
    content_hash = hash_array(plan.membership)
    if store.committed(plan.folder, "membership.json", id=content_hash) is None:
        files = {"membership.npy": store.array_bytes(plan.membership)}
        store.commit(plan.folder, "membership.json", id=content_hash, files=files)


def _compute(
    plan: Plan, run_units: RunUnits | None, on_progress: progress.ProgressCallback, mirror: Mirror | None
) -> tuple[Plan, list[Failed]]:
    """Runs every unit that has no valid result: what needs nothing first, then what starts from an original.

    Returns:
        The plan, with smaller blocks of shadow models where memory did not suffice, and what failed.
    """
    with contextlib.ExitStack() as stack:
        if run_units is None:
            run_units = stack.enter_context(LocalPool(plan.record.config.execution.num_processes)).run_units
        if mirror is not None:
            run_units = push_results(mirror, run_units)
        failures = _run("original, shadows", [*plan.originals, *plan.shadows], run_units, on_progress, plan)
        too_large = {failure.unit.id for failure in failures if _can_be_smaller(failure)}
        if too_large:
            failures = [failure for failure in failures if failure.unit.id not in too_large]
            plan = in_smaller_blocks(plan, too_large)
            failures += _run("smaller blocks", plan.shadows, run_units, on_progress, plan)
        ready = {unit.seed for unit in plan.originals if is_done(unit)}
        unlearning = [unit for unit in plan.unlearning if unit.seed in ready]
        failures += _run("unlearning", unlearning, run_units, on_progress, plan)
    return plan, failures


def _can_be_smaller(failure: Failed) -> bool:
    return failure.kind == "out_of_memory" and isinstance(failure.unit, ShadowUnit) and failure.unit.num_models > 2


def _run(
    stage_name: str, units: Sequence[Unit], run_units: RunUnits, on_progress: progress.ProgressCallback, plan: Plan
) -> list[Failed]:
    todo = missing(units)
    total = sum(unit.num_models for unit in units)
    stage = progress.Stage(stage_name, total, on_progress, done=total - sum(unit.num_models for unit in todo))
    failures: list[Failed] = []
    for outcome in run_units(todo) if todo else ():
        if isinstance(outcome, Failed):
            if outcome.kind == "storage_full":
                raise Unfinished(_FULL.format(folder=plan.folder))
            failures.append(outcome)
            stage.advance(0, note=f"failed: {outcome.unit.title}")
        else:
            stage.advance(outcome.unit.num_models, note=outcome.unit.title)
    return failures


def _write(plan: Plan, report: Report) -> None:
    """Writes the report's files; a finished run's are left as they are."""
    files = render(report)
    stable = {name: content for name, content in files.items() if name != "timings.json"}
    content_hash = store.files_hash(stable)
    if store.committed(plan.folder, "report.json", id=content_hash) is None:
        store.commit(
            plan.folder,
            "report.json",
            id=content_hash,
            files=files,
            facts={"status": report.status, "missing": report.missing},
        )
