"""Settle the kernels of a plan: as its run has them, as asked, or by the self-check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ungan_dist.config.execution import Kernels
from ungan_dist.errors import ConfigError, Unfinished
from ungan_dist.kernels import find_obstacle
from ungan_dist.kernels.blocks import table_hash
from ungan_dist.kernels.self_check import Verdict
from ungan_dist.kernels.uses import KernelUse
from ungan_dist.runs.kernel_choice.judging import Judged, JudgeTask, judge_here
from ungan_dist.runs.operations import fused_operations, uses_of_target, uses_of_training
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.progress import ProgressCallback, remark, silent
from ungan_dist.runs.record import RunRecord, read_plain_of
from ungan_dist.runs.units import missing

JudgeEverywhere = Callable[[Callable[[JudgeTask], list[Judged]], JudgeTask], list[Judged]]
"""Calls the self-check on one worker of each kind, and returns the verdicts of every kind of device."""


def run_here(function: Callable[[JudgeTask], list[Judged]], task: JudgeTask) -> list[Judged]:
    """Call the self-check on this machine."""
    return function(task)


def settle_kernels(
    plan: Plan, judge_everywhere: JudgeEverywhere | None = run_here, on_progress: ProgressCallback = silent
) -> Plan:
    """Return the plan with its kernels chosen; only a new run judges.

    Args:
        plan: The plan, before any unit is computed.
        judge_everywhere: Runs the self-check where units are computed; defaults to this machine. None judges nothing.
        on_progress: Called with what was chosen.

    Raises:
        ConfigError: An operation cannot run fused although ``fused`` is asked for, or the run has other kernels.
        Unfinished: No worker of the cluster was free in time.
    """
    record, asked = plan.record, plan.record.config.execution.kernels
    present = read_plain_of(plan.folder, record.run_hash)
    if present is not None:
        return _keep(plan, present["resolved"].get("kernels"))
    device = str(record.resolved["device"])
    uses = _list_uses(record)
    if asked == "fused":
        _refuse_obstacles(uses, device)
    if judge_everywhere is None or (asked == "auto" and device != "cuda"):
        return plan  # on a CPU nothing but the interpreter runs them, which is for tests
    possible = _distinct(use for _, use in uses if use.obstacle is None)
    judged: list[Judged] = []
    if device == "cuda" and asked != "reference":
        on_progress(remark("kernels", f"{len(possible)} operations are checked and timed on the device"))
        try:
            judged = judge_everywhere(judge_here, JudgeTask(uses=tuple(possible), device=device))
        except TimeoutError as error:
            raise Unfinished(
                "no worker checked the kernels in time: other jobs may hold the cluster, see `ray status`; run again"
            ) from error
    plan = _replan(plan, choose_kernels(possible, judged, asked))
    fused = fused_operations(plan.record.resolved)
    on_progress(remark("kernels", f"fused: {', '.join(fused)}" if fused else "every operation runs its reference"))
    return plan


def _keep(plan: Plan, known: dict[str, Any] | None) -> Plan:
    """Take the kernels of the run that exists; None if it runs every reference."""
    asked = plan.record.config.execution.kernels
    resolved = {} if known is None else {"kernels": known}
    fused, judged = fused_operations(resolved), set(known["choices"] if known else ())
    if (asked == "reference" and fused) or (asked == "fused" and (not judged or judged - set(fused))):
        raise ConfigError(
            f"the run in {plan.folder} computes with {', '.join(fused) or 'no operation'} fused, so it cannot go on "
            f"with --execution.kernels {asked}: leave the option out, or choose another --execution.run-name"
        )
    if known is None:
        return plan
    plan = _replan(plan, known)
    changed = [name for name in fused if known["choices"][name]["blocks"] != table_hash(name)]
    if changed and missing(plan.units):
        raise ConfigError(
            f"the block sizes of {', '.join(changed)} have changed since the run in {plan.folder} was planned: finish "
            f"it with the version that planned it, or choose another --execution.run-name"
        )
    return plan


def choose_kernels(uses: Sequence[KernelUse], judged: Sequence[Judged], asked: Kernels) -> dict[str, Any]:
    """Combine the verdicts of all kinds of device into one choice for each operation, as plain data for the record.

    Args:
        uses: The uses that were judged.
        judged: The verdicts; empty if nothing was judged.
        asked: The option: ``fused`` takes every operation whose check came to its end, ``reference`` none.

    Raises:
        ConfigError: ``fused`` is asked for, and the self-check could not run an operation.
    """
    operations = sorted({use.operation for use in uses})
    choices: dict[str, Any] = {}
    for operation in operations:
        verdicts = [
            (one.device, verdict)
            for one in judged
            for use, verdict in zip(uses, one.verdicts, strict=True)
            if use.operation == operation
        ]
        verdict = _combine(verdicts)
        if asked == "fused":
            broken = next((found for _, found in verdicts if found.error is None), None)
            if broken is not None:
                raise ConfigError(_refusal(operation, broken.reason))
            found = f"; the self-check found: {verdict.reason}" if verdicts else ""
            verdict = dataclasses.replace(verdict, choice="fused", reason=f"asked for{found}")
        choices[operation] = dataclasses.asdict(verdict) | {"blocks": table_hash(operation)}
    return {"choices": choices, "devices": sorted({one.device for one in judged})}


def _combine(verdicts: Sequence[tuple[str, Verdict]]) -> Verdict:
    """Return the least favourable verdict: every kind of device and every shape must agree on ``fused``."""
    if not verdicts:
        return Verdict(choice="reference", reason="asked for")
    devices = {device for device, _ in verdicts}
    device, worst = min(verdicts, key=lambda pair: (pair[1].choice == "fused", pair[1].ratio or 0.0))
    is_split = len({verdict.choice for _, verdict in verdicts}) > 1 and len(devices) > 1
    return dataclasses.replace(worst, reason=f"the GPUs disagree; {device}: {worst.reason}") if is_split else worst


def _list_uses(record: RunRecord) -> list[tuple[str, KernelUse]]:
    """List every use of a run with the method that has it."""
    targets = [(method, use) for method in record.config.methods for use in uses_of_target(record, method)]
    return [*(("shadow models", use) for use in uses_of_training(record)), *targets]


def _distinct(uses: Iterable[KernelUse]) -> list[KernelUse]:
    found: list[KernelUse] = []  # their shapes have no hash
    for use in uses:
        if use not in found:
            found.append(use)
    return found


def _refuse_obstacles(uses: Sequence[tuple[str, KernelUse]], device: str) -> None:
    for method, use in uses:
        obstacle = find_obstacle(use.operation, device) or use.obstacle
        if obstacle is not None:
            raise ConfigError(_refusal(f"{use.operation} of {method}", obstacle))


def _refusal(operation: str, reason: str) -> str:
    return f"--execution.kernels fused cannot run {operation}: {reason}; use --execution.kernels auto or reference"


def _replan(plan: Plan, kernels: dict[str, Any]) -> Plan:
    """Return the plan with these kernels; units that use a fused one get other ids."""
    record = dataclasses.replace(plan.record, resolved=plan.record.resolved | {"kernels": kernels})
    if not fused_operations(record.resolved):
        return dataclasses.replace(plan, record=record)
    made = make_plan(record.config, record=record, source=plan.source)
    return dataclasses.replace(made, place=plan.place, warnings=plan.warnings, notes=plan.notes)
