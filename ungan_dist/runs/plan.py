"""Plan a run before anything is trained: its sets, membership matrix, resolved settings and units with ids."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from ungan_dist.config.audit import AuditConfig, method_config
from ungan_dist.config.identity import RESULTS_VERSION, content_hash, plain, run_hash
from ungan_dist.config.methods import UnlearnedConfig
from ungan_dist.data.loader_choice import resolve_loader
from ungan_dist.data.membership import draw_membership
from ungan_dist.data.prepared import PreparedData
from ungan_dist.data.sources.source import Source, load_source
from ungan_dist.data.split import SeedSplit, Split, draw_sets, hash_array, make_split
from ungan_dist.errors import ConfigError
from ungan_dist.kernels import resolve, table_hash
from ungan_dist.runs.given import given_sets
from ungan_dist.runs.record import RunRecord, folder_of
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import is_done
from ungan_dist.training.probing import check_data_parallel, check_models
from ungan_dist.training.weights import locate_weights


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
    notes: list[str]
    """Assumptions about the user's input, for the report."""

    @property
    def targets(self) -> list[TargetUnit]:
        return [*self.originals, *self.unlearning]


def make_plan(config: AuditConfig, *, resolved: dict[str, Any] | None = None, device: str | None = None) -> Plan:
    """Read the data, draw the sets and create every unit; nothing is written.

    Args:
        config: The config of the run.
        resolved: How an earlier run resolved its ``auto`` fields; defaults to what fits the device.
        device: Device of the units, ``cpu`` or ``cuda``; defaults to what this machine has.

    Raises:
        ConfigError: The data cannot be read or does not suffice, or FFCV is asked for and not installed.
    """
    try:
        source = load_source(config.source)
        architecture = check_models(config, source)
        shared = check_data_parallel(config, source)
        sets = None if config.given.forget is None else given_sets(config, source)
        split = sets.split if sets else make_split(config.split, len(source.images), source.test)
        check_image_size(config, source)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    engine = _engine(config, device) if config.shadows.engine == "auto" else config.shadows.engine
    # every loader gives the bits of the resident one; the key stays because ids hash it
    resolved = resolved or {"device": device, "engine": engine, "loader": "resident", **_fused(device)}
    loader, note = resolve_loader(config.data.loader, source.images.nbytes, str(resolved["device"]))
    record = RunRecord(
        config=config,
        run_hash=run_hash(config, source.content_hash, sets.given_hash if sets else "", architecture),
        data_hash=source.content_hash,
        channels=source.images.shape[-1],
        num_classes=source.num_classes,
        resolved=resolved,
        given_hash=sets.given_hash if sets else "",
        architecture=architecture,
    )
    folder = folder_of(config, record.run_hash)
    prepared = PreparedData(
        output=str(folder.parent),
        data_hash=source.content_hash,
        loader=loader,
        num_threads=config.data.num_threads,
    )
    draws = [sets.draw if sets else draw_sets(config.split, seed) for seed in range(config.num_seeds)]
    membership = draw_membership(config.shadows.num_models, len(split.pool), config.shadows.seed)
    originals, unlearning = _targets(record, folder, prepared, split, draws)
    return Plan(
        record=record,
        folder=folder,
        source=source,
        split=split,
        draws=draws,
        membership=membership,
        warnings=(note,) if note else (),
        originals=originals,
        unlearning=unlearning,
        shadows=_shadows(record, prepared, split, membership),
        notes=[*(sets.notes if sets else []), *shared],
    )


def _engine(config: AuditConfig, device: str) -> str:
    # stacking gains nothing on a CPU with one process per core; vmap refuses layers such as dropout, which the user's
    # model may have; data-parallel processes share one model's batches
    alone = device == "cpu" or config.model.factory is not None or config.shadows.data_parallel
    return "serial" if alone else "stacked"


def _code(config: AuditConfig) -> str | None:
    """Return the folder that the factory is imported from; workers may run in another one."""
    return None if config.model.factory is None else os.getcwd()


def split_blocks(plan: Plan, too_large: Collection[str]) -> Plan:
    """Split some units of shadow models, given by id, into pairs, the smallest balanced blocks."""
    prepared = plan.originals[0].prepared
    return dataclasses.replace(
        plan, shadows=_shadows(plan.record, prepared, plan.split, plan.membership, too_large=too_large)
    )


def check_image_size(config: AuditConfig, source: Source) -> None:
    """Refuse images that are too small for the classifier."""
    height, width = source.images.shape[1:3]
    if min(height, width) < 4:
        raise ValueError(f"images are {height} × {width} pixels; the classifiers need at least 4 × 4")
    if config.train.augment.padding >= min(height, width):
        raise ValueError(
            f"train.augment.padding must be smaller than the images ({height} × {width}), "
            f"got {config.train.augment.padding}"
        )


OPERATIONS = ("critic_loss", "critic_sgd_step", "gather_augmented", "generator_loss", "log_odds")
"""The kernels that a run uses."""


def implementations(resolved: dict[str, Any]) -> dict[str, str]:
    """Describe for the report which implementation of each kernel a run used, and why."""
    found: dict[str, str] = {}
    for operation in OPERATIONS:
        here = resolve(operation, "auto", torch.device(resolved["device"]))
        name = "fused" if operation in resolved.get("fused", ()) else "reference"
        found[operation] = f"{name}: {here.reason if here.name == name else 'as resolved where the run was planned'}"
    return found


def _fused(device: str) -> dict[str, Any]:
    """Return the fused operations and the table of block sizes that their bits depend on.

    Empty if nothing is fused, so that ids stay those from before there were fused kernels.
    """
    fused = [name for name in OPERATIONS if resolve(name, "auto", torch.device(device)).name == "fused"]
    return {"fused": fused, "blocks": table_hash()} if fused else {}


def _targets(
    record: RunRecord, folder: Path, prepared: PreparedData, split: Split, draws: list[SeedSplit]
) -> tuple[list[TargetUnit], list[TargetUnit]]:
    config = record.config
    common = {"run": record.run_hash, "resolved": record.resolved}
    given = None if config.given.original is None else locate_weights(config.given.original)
    originals: list[TargetUnit] = []
    unlearning: list[TargetUnit] = []
    for seed, draw in enumerate(draws):
        original_id = content_hash({**common, "method": "original", "seed": seed})
        for method in config.methods:
            settings = method_config(config, method)
            content = {**common, "method": method, "seed": seed}
            if isinstance(settings, UnlearnedConfig):
                weights = locate_weights(settings.weights)
                content["weights"] = weights.sha256
                settings = UnlearnedConfig(weights=weights.path, sha256=weights.sha256)
            unit = TargetUnit(
                id=content_hash(content),
                original_id=original_id,
                run=str(folder),
                method=method,
                method_config=settings,
                seed=seed,
                prepared=prepared,
                split=split,
                draw=draw,
                model=config.model,
                train=config.train,
                queries=config.shadows.queries,
                device=str(record.resolved["device"]),
                fused=tuple(record.resolved.get("fused", ())),
                given_original=given,
                code=_code(config),
            )
            (originals if method == "original" else unlearning).append(unit)
    return originals, unlearning


def fleet_identity(record: RunRecord) -> dict[str, Any]:
    """Return what identifies shadow models across runs, except the pool."""
    config = record.config
    train = plain(config.train)
    # with statistics of the whole batch, the number of processes does not change a shadow model
    if config.train.sync_batch_norm or not config.shadows.data_parallel:
        del train["num_workers"], train["sync_batch_norm"]
    return {
        "results_version": RESULTS_VERSION,
        "data": record.data_hash,
        "model": plain(config.model),
        "train": train,
        "queries": list(config.shadows.queries),
        "seed": config.shadows.seed,
        "resolved": record.resolved,
    } | ({"architecture": record.architecture} if record.architecture else {})


def _shadows(
    record: RunRecord,
    prepared: PreparedData,
    split: Split,
    membership: Bool[np.ndarray, "models pool"],
    *,
    too_large: Collection[str] = (),
) -> list[ShadowUnit]:
    """Create fixed blocks of whole pairs; ids exclude methods and seeds, so that runs share shadow models.

    An incomplete block is trained in pairs, also after more models complete it, so that nothing is trained twice.
    """
    config = record.config
    common = fleet_identity(record) | {"pool": hash_array(split.pool)}

    def unit(shadows: tuple[int, ...]) -> ShadowUnit:
        content = {**common, "shadows": list(shadows), "membership": hash_array(membership[list(shadows)])}
        return ShadowUnit(
            id=content_hash(content)[:32],
            shadows=shadows,
            seed=config.shadows.seed,
            prepared=prepared,
            pool=split.pool,
            model=config.model,
            train=config.train,
            queries=config.shadows.queries,
            keep_models=config.execution.keep_shadow_models,
            engine=str(record.resolved["engine"]),
            device=str(record.resolved["device"]),
            fused=tuple(record.resolved.get("fused", ())),
            code=_code(config),
        )

    units: list[ShadowUnit] = []
    for start in range(0, config.shadows.num_models, config.shadows.unit_size):
        block = tuple(range(start, min(start + config.shadows.unit_size, config.shadows.num_models)))
        pairs = [unit(block[first : first + 2]) for first in range(0, len(block), 2)]
        whole = unit(block)
        begun_in_pairs = not is_done(whole) and any(map(is_done, pairs))
        in_pairs = len(block) < config.shadows.unit_size or whole.id in too_large or begun_in_pairs
        units += pairs if in_pairs else [whole]
    return units
