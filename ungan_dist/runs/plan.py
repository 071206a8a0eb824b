"""Plan a run before anything is trained: its sets, membership matrix, resolved settings and units with ids."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from ungan_dist.config.attack import NOT_UNLEARNED
from ungan_dist.config.audit import AuditConfig, method_config
from ungan_dist.config.identity import RESULTS_VERSION, run_hash
from ungan_dist.config.methods import OwnMethodConfig, UnlearnedConfig
from ungan_dist.config.training import CAPTURING, TOGETHER
from ungan_dist.data.copies import ForgetCopies, find_copies
from ungan_dist.data.group import describe_group
from ungan_dist.data.loader_choice import resolve_loader
from ungan_dist.data.membership import draw_membership
from ungan_dist.data.memorisation import find_records
from ungan_dist.data.prepared import PreparedData
from ungan_dist.data.sources.source import Source, load_source
from ungan_dist.data.split import SeedSplit, Split, settle_sizes
from ungan_dist.errors import ConfigError
from ungan_dist.runs.blocks import Blocks
from ungan_dist.runs.drawn import DrawnSets, draw_all_sets
from ungan_dist.runs.earlier import find_earlier_versions
from ungan_dist.runs.given import EarlierSets, GivenSets
from ungan_dist.runs.inputs import check_inputs
from ungan_dist.runs.operations import fused_for_target, judged_devices, settings_of_target
from ungan_dist.runs.record import FeatureFacts, PixelFacts, RunRecord, folder_of
from ungan_dist.runs.sequence import find_sets
from ungan_dist.runs.settled import find_engine, is_made, settle_unit_size
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.targets import TargetUnit, target_id
from ungan_dist.runs.unlearned_shadows import UnlearnedShadowUnit, make_unlearned_shadows
from ungan_dist.runs.views import narrow
from ungan_dist.training.precision import check_precision
from ungan_dist.training.probing import check_building, check_data_parallel, check_models


@dataclass(frozen=True, kw_only=True)
class Work:
    """The amount of work of a run."""

    num_models: int
    """Shadow models, originals and unlearned models in total."""
    num_units: int
    sizes: dict[str, int]
    """Number of examples in each set of the first seed."""
    num_unlearned_shadows: int = 0
    """Unlearnings of shadow models among the models."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a run will compute."""

    record: RunRecord
    folder: Path
    source: Source
    split: Split
    draws: list[SeedSplit]
    """The sets of each audit seed."""
    warnings: tuple[str, ...]
    """Notes for the user on how ``auto`` was resolved."""
    membership: Bool[np.ndarray, "models pool"]
    originals: list[TargetUnit]
    unlearning: list[TargetUnit]
    """All other methods; each needs the original of its seed."""
    shadows: list[ShadowUnit]
    unlearned_shadows: list[UnlearnedShadowUnit]
    """Shadow models that unlearn too, if the config asks for it; each needs its shadow models and its method."""
    copies: ForgetCopies
    """Forget examples whose pixels stand in other sets too."""
    notes: list[str]
    """Remarks on the data and assumptions about the user's input, for the report."""
    earlier: tuple[EarlierSets, ...] = ()
    """Requests that the originals have forgotten already."""
    place: str = ""
    """Place of the report: the folder of a view, relative to the run folder, or empty for the run folder itself."""

    @property
    def report_folder(self) -> Path:
        return self.folder / self.place

    @property
    def targets(self) -> list[TargetUnit]:
        return [*self.originals, *self.unlearning]

    @property
    def units(self) -> list[TargetUnit | ShadowUnit | UnlearnedShadowUnit]:
        """All units, in the order in which they are computed."""
        return [*self.targets, *self.shadows, *self.unlearned_shadows]

    @property
    def work(self) -> Work:
        """The amount of work and the sizes of the first seed's sets."""
        draw, units = self.draws[0], self.units
        sizes = {
            "retain": len(draw.retain),
            "forget": len(draw.forget),
            "non-members": len(draw.non_members),
            "unseen": len(self.split.unseen),
            "test": len(self.split.test),
        }
        return Work(
            num_models=sum(unit.num_models for unit in units),
            num_units=len(units),
            sizes=sizes,
            num_unlearned_shadows=sum(unit.num_models for unit in self.unlearned_shadows),
        )


def reopen_plan(record: RunRecord, place: str = "", *, source: Source | None = None) -> Plan:
    """Make the plan of a report from the record of its run. The code of a user's model is neither imported nor called.

    Args:
        record: The record of the run.
        place: The place of a view; defaults to the run's own report.
        source: The data of the run, if they were read before.

    Raises:
        ConfigError: The data cannot be read any more, or there is no such view.
        CorruptResult: The view's request is damaged.
    """
    record = narrow(record, folder_of(record.config, record.run_hash), place)
    return dataclasses.replace(make_plan(record.config, record=record, source=source), place=place)


def make_plan(
    config: AuditConfig,
    *,
    record: RunRecord | None = None,
    device: str | None = None,
    source: Source | None = None,
) -> Plan:
    """Read the data, draw the sets and create every unit; nothing is written.

    Args:
        config: The config of the run.
        record: The record of the run, if it exists. What an earlier process found out about the device and the model
            is then taken from it, and models are not checked again.
        device: Device of the units, ``cpu`` or ``cuda``; defaults to what this machine has.
        source: The data, if they were read before.

    Raises:
        ConfigError: The data cannot be read or does not suffice, or FFCV is asked for and not installed.
    """
    try:
        if config.given.scores is not None:
            find_records(Path(config.given.scores))
        source = source or load_source(config.source)
        check_inputs(config, source)
        if record is None:
            check_building(config, source)
            architecture, read = check_models(config, source)
            notes = (*check_data_parallel(config, source), *read)
        else:
            architecture, notes = record.architecture, record.model_notes
        num_test = 0 if source.test is None else len(source.test)
        config, settled = settle_sizes(config, len(source.images), num_test)
        sets = find_sets(config, source, architecture, is_new=record is None)
        drawn = DrawnSets(sets.split, sets.draws, sets.given_hash) if sets else draw_all_sets(config, source)
        split, draws, given_hash = drawn.split, drawn.draws, drawn.given_hash
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    resolved = _resolve(config, device) if record is None else record.resolved
    try:
        check_precision(config.train.precision, str(resolved["device"]))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    loader, note = resolve_loader(
        "resident" if source.has_features else config.data.loader, source.images.nbytes, str(resolved["device"])
    )
    is_earlier, earlier_versions, results_version = False, [], RESULTS_VERSION
    if record is None:
        hash_of = functools.partial(run_hash, data_hash=source.content_hash, architecture=architecture)
        sized = settle_unit_size(config, functools.partial(hash_of, given_hash=given_hash))
        if config.shadows.engine == "auto":
            hashes = {given_hash, sets.earlier_hash} if sets else {given_hash}
            earlier = [(one, hash_of(one, given_hash=given)) for one in (sized, config) for given in hashes]
            resolved["engine"] = find_engine(earlier, str(resolved["device"])) or resolved["engine"]
        if resolved["engine"] not in TOGETHER:
            config = sized
        if sets is not None and sets.earlier_hash != sets.given_hash:
            is_earlier = is_made(config, hash_of(config, given_hash=sets.earlier_hash))
        earlier_versions = find_earlier_versions(config, hash_of, sets)
    elif sets is not None:
        is_earlier = record.given_hash == sets.earlier_hash
    if record is not None:
        results_version = record.results_version
    if sets is not None and is_earlier:
        given_hash = sets.earlier_hash
    record = RunRecord(
        config=config,
        run_hash=run_hash(config, source.content_hash, given_hash, architecture, results_version),
        results_version=results_version,
        data_hash=source.content_hash,
        channels=source.input_shape[0],
        num_classes=source.num_classes,
        resolved=resolved,
        given_hash=given_hash,
        architecture=architecture,
        **_describe_inputs(source),
        model_notes=notes,
    )
    folder = folder_of(config, record.run_hash)
    prepared = PreparedData(
        output=str(folder.parent),
        data_hash=source.content_hash,
        loader=loader,
        num_threads=config.data.num_threads,
    )
    if config.report.relearning and min(len(draw.forget) for draw in draws) < 2:
        raise ConfigError("report.relearning needs at least 2 forget examples: one is shown again, and one tested")
    membership = np.zeros((0, len(split.pool)), dtype=bool)
    if config.shadows.num_models:
        membership = draw_membership(config.shadows.num_models, len(split.pool), config.shadows.seed)
    originals, unlearning = _targets(record, folder, prepared, split, draws, sets)
    shadows = Blocks(record, prepared, split, membership, code=_code(config)).divide()
    return Plan(
        record=record,
        folder=folder,
        source=source,
        split=split,
        draws=draws,
        membership=membership,
        warnings=(*settled, *([note] if note else []), *earlier_versions),
        originals=originals,
        unlearning=unlearning,
        shadows=shadows,
        unlearned_shadows=make_unlearned_shadows(config, unlearning, shadows),
        copies=find_copies(source, split, draws),
        notes=[*source.notes, *(sets.notes if sets else []), *notes, *_describe_group(split, draws[0])],
        earlier=sets.earlier if sets else (),
    )


def _describe_group(split: Split, draw: SeedSplit) -> list[str]:
    if split.group is None:
        return []
    return [describe_group(split.group, num_forget=len(draw.forget), num_non_members=len(draw.non_members))]


def _resolve(config: AuditConfig, device: str | None) -> dict[str, Any]:
    """Resolve what the config leaves open, for this machine or the given device."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    engine = "serial" if config.shadows.engine == "auto" else config.shadows.engine
    # every loader gives the bits of the resident one; the key stays because ids hash it
    return {"device": device, "engine": engine, "loader": "resident"}


def _code(config: AuditConfig) -> str | None:
    """Return the folder that the user's code is imported from; workers may run in another one."""
    brought = config.model.factory is not None or config.own_methods or config.train.has_own_code
    return os.getcwd() if brought else None


def blocks_of(plan: Plan) -> Blocks:
    """Return what divides a plan's shadow models into units."""
    prepared = plan.originals[0].prepared
    return Blocks(plan.record, prepared, plan.split, plan.membership, code=_code(plan.record.config))


def split_blocks(plan: Plan, too_large: Collection[str]) -> Plan:
    """Divide the shadow models anew, with some units, given by id, split into pairs."""
    shadows = blocks_of(plan).divide(too_large=too_large)
    unlearned = make_unlearned_shadows(plan.record.config, plan.unlearning, shadows)
    return dataclasses.replace(plan, shadows=shadows, unlearned_shadows=unlearned)


def _describe_inputs(source: Source) -> dict[str, Any]:
    """Describe what the models take, for the record."""
    if source.has_features:
        return {"features": FeatureFacts(shape=source.input_shape, mean=source.mean, std=source.std)}
    _, height, width, _ = source.images.shape
    return {"pixels": PixelFacts(height=height, width=width, mean=source.mean, std=source.std)}


def _targets(
    record: RunRecord,
    folder: Path,
    prepared: PreparedData,
    split: Split,
    draws: list[SeedSplit],
    sets: GivenSets | None,
) -> tuple[list[TargetUnit], list[TargetUnit]]:
    config = record.config
    run = record.run_hash
    given = {} if sets is None else sets.weights
    # an earlier version knew weights by the bytes of their file
    by_file = sets is not None and record.given_hash == sets.earlier_hash
    originals: list[TargetUnit] = []
    unlearning: list[TargetUnit] = []
    for seed, draw in enumerate(draws):
        original_id = target_id(run, settings_of_target(record, "original"), "original", seed)
        for method in config.methods:
            settings = method_config(config, method)
            sha256 = ""
            # the original is the stage before, and given weights are one model
            is_one = method in NOT_UNLEARNED or isinstance(settings, UnlearnedConfig)
            num_unlearnings = 1 if is_one else config.num_unlearnings
            if isinstance(settings, UnlearnedConfig):
                weights = given["unlearned" if method == "unlearned" else "retrained"]
                sha256 = weights.sha256 if by_file else weights.identity
                settings = UnlearnedConfig(
                    weights=weights.path, sha256=weights.sha256, identity=sha256, key=weights.key
                )
            resolved = settings_of_target(record, method)
            source = settings.source if isinstance(settings, OwnMethodConfig) else ""
            (originals if method == "original" else unlearning).extend(
                TargetUnit(
                    id=target_id(run, resolved, method, seed, sha256, source, number),
                    original_id=original_id,
                    run=str(folder),
                    method=method,
                    method_config=settings,
                    seed=seed,
                    unlearning=number,
                    prepared=prepared,
                    split=split,
                    draw=draw,
                    model=config.model,
                    train=config.train,
                    queries=config.shadows.queries,
                    device=str(record.resolved["device"]),
                    fused=fused_for_target(record, method),
                    judged_on=judged_devices(record),
                    engine="graph" if record.resolved["engine"] in CAPTURING else "serial",
                    given_original=sets.originals[seed] if sets and sets.originals else given.get("original"),
                    with_entropies=config.attack.quick,
                    with_outputs=config.report.distances,
                    with_relearning=config.report.relearning,
                    code=_code(config),
                )
                for number in range(num_unlearnings)
            )
    return originals, unlearning
