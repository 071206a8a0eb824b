"""Score the committed results of a run, build its report and write it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ungan_dist import store
from ungan_dist.attack.earlier import audit_earlier
from ungan_dist.attack.estimates import EarlierRequest
from ungan_dist.attack.evidence import Evidence, Failure, Report
from ungan_dist.attack.lira import resolve_variance
from ungan_dist.attack.metrics import auc
from ungan_dist.attack.power import measure_smallest_delta
from ungan_dist.attack.score import score_rows
from ungan_dist.attack.sensitivity import measure_sensitivity
from ungan_dist.attack.verdicts import VERDICT_LEVEL, judge_rows
from ungan_dist.config.attack import ATTACK_NAMES, MIN_SHADOWS
from ungan_dist.config.identity import appended, identity
from ungan_dist.config.methods import title_of
from ungan_dist.data.split import list_evaluated_sets
from ungan_dist.errors import ConfigError, Unfinished, explain_file_errors
from ungan_dist.report import render
from ungan_dist.report.examples import select_forget_examples
from ungan_dist.runs import progress
from ungan_dist.runs.again import describe_continuing
from ungan_dist.runs.equal_models import describe_equal_models
from ungan_dist.runs.failures import describe, sort_out_absent, traceback_file
from ungan_dist.runs.finished import fingerprint_inputs, record_finished
from ungan_dist.runs.given import find_remedies
from ungan_dist.runs.looks import NOT_A_LOOK, add_outcome, is_outside_looks, read_stopping
from ungan_dist.runs.operations import describe_kernels
from ungan_dist.runs.plan import Plan, reopen_plan
from ungan_dist.runs.record import RunRecord, find_changes
from ungan_dist.runs.scoring import QuickScorer, Scorer, ShadowScorer
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import Failed, Unit, is_done, read_facts
from ungan_dist.runs.views import RECORDS_FILE, REPORT_FILE


def build_report(plan: Plan, failures: list[Failed], on_progress: progress.ProgressCallback) -> Report:
    """Score what is committed.

    Args:
        plan: The plan of the run.
        failures: Units that failed; their errors are named as the reason for what is missing.
        on_progress: Called with each progress event.

    Raises:
        ConfigError: No original, or fewer than two pairs of shadow models, can have a result: they fail every time.
        Unfinished: Fewer than two pairs of shadow models, or no original, have a result yet.
    """
    config = plan.record.config
    present = [unit for unit in plan.shadows if is_done(unit)]
    targets = [unit for unit in plan.targets if is_done(unit)]
    failed, waiting = sort_out_absent(plan.folder, plan.units)
    too_few = not config.attack.quick and sum(unit.num_models for unit in present) < MIN_SHADOWS
    if too_few or not any(unit.method == "original" for unit in targets):
        _refuse_hopeless(plan, failed, waiting)
        errors = "".join(f"; {failure.unit.title}: {failure.error}" for failure in failures[:3])
        again = describe_continuing(plan.report_folder)
        raise Unfinished(f"nothing can be scored yet in {plan.folder}{errors}; {again}")
    attack = config.attack
    scorer: Scorer = QuickScorer(plan, targets) if attack.quick else ShadowScorer(plan, present, targets)
    stage = progress.Stage("scoring", len(targets), on_progress)
    evidence: list[Evidence] = []
    for unit in sorted(targets, key=lambda unit: (config.methods.index(unit.method), unit.seed, unit.unlearning)):
        evidence.append(scorer.score(unit))
        stage.advance()
    reasons = {failure.unit.id: f": {failure.error}" for failure in failures}
    absent = [f"{unit.title}{reasons.get(unit.id, '')}" for unit in waiting]
    originals = [item for item in evidence if item.method == "original"]
    aucs = [_tell_members(plan, item) for item in originals]
    draw = plan.draws[0]
    sizes = {
        "train": len(draw.train),
        "retain": len(draw.retain),
        "forget": len(draw.forget),
        "unseen": len(plan.split.unseen),
        "shadow_pool": len(draw.non_members),
        "test": len(plan.split.test),
        **({"test_others": len(plan.split.test_of_others)} if plan.split.has_classes else {}),
        "shadows": scorer.num_shadows,
        "seeds": config.num_seeds,
        **({"unlearnings": config.num_unlearnings} if config.num_unlearnings > 1 else {}),
    }
    stopping = read_stopping(plan)
    level = VERDICT_LEVEL if stopping is None else stopping.looks[stopping.index].level
    num_test = {name: len(some) for name, some in list_evaluated_sets(plan.split, draw).items() if "test" in name}
    rows = score_rows(evidence, attack, num_test=num_test, level=level, from_half=plan.split.is_drawn_class)
    smallest_delta = measure_smallest_delta(rows, sizes)
    diverged = Counter(one.unit.method for one in failed if one.kind == "diverged" and isinstance(one.unit, TargetUnit))
    rows = judge_rows(
        rows, attack, num_classes=plan.source.num_classes, sizes=sizes, evidence=evidence, diverged=diverged
    )
    return Report(
        title=plan.source.title,
        recipe=config.name,
        run_hash=plan.record.run_hash,
        config={"identity": identity(config), **appended(config)},
        resolved={
            **plan.record.resolved,
            "kernels": describe_kernels(plan.record),
            **({} if attack.quick else {"variance": resolve_variance(attack.variance, scorer.num_shadows)}),
        },
        versions=collect_versions([*targets, *present, *plan.unlearned_shadows]),
        sizes=sizes,
        rows=scorer.unlearned.add_to(rows, attack.delta),
        evidence=evidence,
        shadow_quality={f"{ATTACK_NAMES[evidence[0].attack]} AUC of the original, D against D^s": float(np.mean(aucs))},
        status="PARTIAL" if absent else "COMPLETE WITH FAILURES" if failed else "COMPLETE",
        missing=absent,
        failures=[_describe_failure(failure) for failure in failed],
        forget_files=_forget_files(plan),
        notes=[
            *describe_equal_models(plan.folder, targets),
            *plan.notes,
            *([NOT_A_LOOK] if is_outside_looks(plan) else []),
        ],
        stopping=add_outcome(stopping, rows),
        copies=plan.copies.sentence,
        copied=plan.copies.named,
        examples=select_forget_examples(plan.source, plan.split, evidence) if _may_show(plan) else [],
        remedies=find_remedies(config),
        smallest_delta=None if attack.quick else smallest_delta,
        normality=scorer.normality,
        sensitivity=measure_sensitivity(evidence, scorer.smaller, scorer.num_shadows),
        records_file=str((plan.report_folder / RECORDS_FILE).relative_to(plan.folder.parent)),
        earlier=_audit_earlier(plan, evidence),
        data_hash=plan.record.data_hash,
        num_classes=plan.source.num_classes,
        unlearned_seconds=scorer.unlearned.seconds,
        folder=plan.report_folder,
    )


def _tell_members(plan: Plan, original: Evidence) -> float:
    """Return the AUC of the original's D against D^s, without what earlier requests have forgotten."""
    members = np.concatenate([original.retain, original.forget])
    earlier = [request.forget[original.seed] for request in plan.earlier]
    return auc(original.scores[members], np.delete(original.scores, np.concatenate([members, *earlier])))


def _audit_earlier(plan: Plan, evidence: Sequence[Evidence]) -> list[EarlierRequest]:
    """Repeat the audits of the requests that the originals had forgotten already."""
    delta = plan.record.config.attack.delta
    return [
        EarlierRequest(
            run=request.run,
            method=request.method,
            num_forget=len(request.forget[0]),
            rows=audit_earlier(evidence, dict(enumerate(request.forget)), delta),
        )
        for request in plan.earlier
    ]


def _refuse_hopeless(plan: Plan, failed: Sequence[Failed], waiting: Sequence[Unit]) -> None:
    """Refuse a run of which nothing can ever be scored, because its originals or shadow models fail every time."""
    ids = {unit.id for unit in waiting}
    originals = [unit for unit in plan.originals if unit.id in ids or is_done(unit)]
    shadows = [unit for unit in plan.shadows if unit.id in ids or is_done(unit)]
    enough = plan.record.config.attack.quick or sum(unit.num_models for unit in shadows) >= MIN_SHADOWS
    if originals and enough:
        return
    raise ConfigError(
        f"nothing can be scored in {plan.folder}, and the same command would fail again: "
        f"{describe(failed, plan.folder)}"
    )


def _describe_failure(failure: Failed) -> Failure:
    unit = failure.unit
    of_method = isinstance(unit, TargetUnit)
    assert failure.kind in ("failed", "diverged")
    return Failure(
        title=unit.title.replace(unit.method, title_of(unit.method), 1) if of_method else unit.title,
        method=unit.method if of_method else None,
        seed=unit.seed if of_method else None,
        outcome=failure.kind,
        reason=failure.error,
        traceback=traceback_file(unit),
    )


def collect_versions(units: Sequence[Unit]) -> dict[str, str]:
    """Return the versions that computed the results; several versions of a package are joined by commas."""
    found: dict[str, set[str]] = {}
    for unit in units:
        for package, version in (read_facts(unit) or {}).get("versions", {}).items():
            found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(some)) for package, some in sorted(found.items())}


def _may_show(plan: Plan) -> bool:
    return not plan.source.has_features and (plan.source.bundled or plan.record.config.report.show_examples)


def _forget_files(plan: Plan) -> list[str]:
    """List the files that still hold data of the forget set: pixels, models that saw them, per-example scores."""
    prepared, name = plan.originals[0].prepared, plan.folder.name
    # table.md has these names, so they follow from the run's record alone
    return [
        prepared.images,
        prepared.labels,
        prepared.beton.name,
        f"{name}/models/*/original.safetensors",
        f"{name}/models/*/*.safetensors",
        f"{name}/checkpoints/*/*.pt",
        f"{name}/log_odds/*/*.npy",
        *(["shadows/*.npy", "shadows/*/*.safetensors", f"{name}/membership.npy"] if plan.shadows else []),
        *([f"{name}/unlearned_shadows/*/*/*.npy"] if plan.unlearned_shadows else []),
    ]


def write_report(plan: Plan, report: Report) -> None:
    """Commit the report's files; files that are already the same are left alone."""
    files = render(report, paper=plan.record.config.report.figures)
    content_hash = store.hash_files({name: content for name, content in files.items() if name != "timings.json"})
    facts = {"status": report.status, "missing": report.missing, "extent": appended(plan.record.config)}
    if store.committed(plan.report_folder, REPORT_FILE, id=content_hash, files=files) != facts:
        store.commit(plan.report_folder, REPORT_FILE, id=content_hash, files=files, facts=facts)


@contextlib.contextmanager
def report_on_interrupt(plan: Plan) -> Iterator[None]:
    """Write a partial report when the run is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        with contextlib.suppress(Unfinished, ConfigError, OSError):
            write_report(plan, build_report(plan, [], progress.silent))
        raise


def rewrite_report(
    record: RunRecord,
    place: str = "",
    *,
    figures: tuple[str, ...] = (),
    on_progress: progress.ProgressCallback = progress.silent,
) -> tuple[Report, Path]:
    """Write a report of a run again from its committed results; nothing is trained.

    Settings such as the device are those that the run was computed with.

    Args:
        record: The record of the run.
        place: The place of a view; defaults to the run's own report.
        figures: Formats in which figures are written beside SVG, as ``ReportConfig.figures``.
        on_progress: Called with each progress event.

    Returns:
        The report and its folder.

    Raises:
        ConfigError: Data, lists or weights of the run cannot be read, or have changed.
        Unfinished: Too little was committed for a report.
    """
    report_config = dataclasses.replace(record.config.report, figures=figures)
    record = dataclasses.replace(record, config=dataclasses.replace(record.config, report=report_config))
    inputs = fingerprint_inputs(record.config)
    try:
        plan = reopen_plan(record, place)
    except ConfigError as error:
        raise ConfigError(f"{error}. A report needs the inputs of the run: restore them") from error
    if found := find_changes(record, plan.record):
        lists = ", ".join(record.config.given.files.values())
        where = f" ({lists})" if lists and plan.source.content_hash == record.data_hash else ""
        raise ConfigError(f"{plan.folder}: {found[0]}{where}: restore it, or start another run with the new input")
    with explain_file_errors(plan.folder), store.run_lock(plan.folder):
        report = build_report(plan, [], on_progress)
        write_report(plan, report)
        record_finished(plan, record.config, report, inputs)
    return report, plan.report_folder
