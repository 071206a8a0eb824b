"""Requests in sequence: the originals are the unlearned models of an earlier run, which forget the next request."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import RESULTS_VERSION, content_hash, differences, identity
from ungan_dist.config.methods import title_of
from ungan_dist.config.run_model import RunModel, find_run_model
from ungan_dist.data.copies import add_copies
from ungan_dist.data.lists import ExampleList, read_entries
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import SeedSplit, Split, hash_array, seeded_generator
from ungan_dist.runs.drawn import draw_all_sets
from ungan_dist.runs.given import EarlierSets, GivenSets, given_sets
from ungan_dist.runs.kept_models import check_kept_model, place_weights
from ungan_dist.runs.record import RunRecord, read_run, refuse_purged
from ungan_dist.training.given_weights import GivenWeights, locate_given_weights, locate_weights

_SAME = ("source", "model", "train")
"""Parts of the identity that a run shares with the run whose models it continues."""


def find_sets(config: AuditConfig, source: Source, architecture: str = "", *, is_new: bool = False) -> GivenSets | None:
    """Return the sets of a run with a forget list or with models of an earlier run; None for any other run.

    Args:
        config: The config of the run.
        source: Its data.
        architecture: Hash of the architecture of a user's model; empty for a built-in model.
        is_new: Whether the models of an earlier run must be present.

    Raises:
        ValueError: A list does not fit, or the earlier run has other data, another model or another split.
        OSError: A file does not exist.
    """
    model = find_run_model(config.given.original)
    if model is not None:
        sets = _follow(config, source, model, architecture)
        for seed, weights in enumerate(sets.originals if is_new else ()):
            if not weights.sha256:
                raise ValueError(f"{weights.path} does not exist: the run has no model of {model.method}, seed {seed}")
        return sets
    return None if config.given.forget is None else given_sets(config, source)


def _follow(config: AuditConfig, source: Source, model: RunModel, architecture: str) -> GivenSets:
    """Make the sets from those of the earlier run: D is what that run retained, the pool and D^s stay."""
    folder = Path(model.folder).expanduser()
    if model.method == "original":
        raise ValueError(f"the original of {folder} has forgotten nothing: name a method of that run")
    record = read_run(folder)
    _refuse_other(config, record, folder, source, architecture)
    first = find_sets(record.config, source, record.architecture)
    drawn = draw_all_sets(record.config, source) if first is None else first
    split, before, chain = drawn.split, drawn.draws[: config.num_seeds], first.earlier if first else ()
    if split.group is not None or config.split.rule.kind not in ("random", "list"):
        raise ValueError(
            f"a sequence forgets random or listed examples, and {folder if split.group else 'split.forget'} names "
            f"others: audit such a request by a run of its own"
        )
    notes: list[str] = []
    if config.given.forget is None:
        draws = [_draw(config, draw, seed, len(chain)) for seed, draw in enumerate(before)]
        listed = ""
    else:
        forget = read_entries(Path(config.given.forget), source)
        if config.split.forget_copies == "also":
            forget, notes = add_copies(forget, source, _common_retain(split, before))
        draws = [_take(forget, split, draw, seed, folder) for seed, draw in enumerate(before)]
        listed = hash_array(forget.indices)
    num_retain = min(len(draw.retain) for draw in draws)
    if num_retain * config.attack.fnr < 1:
        raise ValueError(
            f"{num_retain} examples are left to retain after {len(chain) + 2} forget requests; attack.fnr "
            f"{config.attack.fnr} needs at least {round(1 / config.attack.fnr)}: forget fewer, or raise attack.fnr"
        )
    weights = locate_given_weights(config.given)
    facts = {"run": record.run_hash, "method": model.method, "forget": listed}
    given_hash = content_hash(facts | {name: file.identity for name, file in weights.items()})
    earlier = EarlierSets(run=folder.resolve().name, method=model.method, forget=[draw.forget for draw in before])
    return GivenSets(
        split=split,
        draws=draws,
        given_hash=given_hash,
        earlier_hash=given_hash,
        weights=weights,
        notes=[*notes, _describe(earlier, len(chain))],
        originals=tuple(_locate(record, folder, model.method, seed) for seed in range(config.num_seeds)),
        earlier=(*chain, earlier),
    )


def _refuse_other(config: AuditConfig, record: RunRecord, folder: Path, source: Source, architecture: str) -> None:
    """Refuse a run that has other data, another model, training or split, or too few seeds."""
    refuse_purged(folder)
    if record.results_version != RESULTS_VERSION:
        raise ValueError(f"{folder} was trained by an earlier version of this software: run it anew, then continue it")
    if record.data_hash != source.content_hash:
        raise ValueError(f"{folder} was made from other data: name its data, {record.config.source.path}, here too")
    own, theirs = identity(config), identity(record.config)
    names = (
        ["seed"] if config.given.forget or record.config.given.forget else ["train", "shadow_pool", "unseen", "seed"]
    )
    before, now = ({part: side[part] for part in _SAME} for side in (theirs, own))
    before["split"], now["split"] = ({name: side["split"][name] for name in names} for side in (theirs, own))
    if lines := differences(before, now):
        raise ValueError(
            f"--original names a model of {folder}, whose settings differ: {'; '.join(lines)}. Use those of that run"
        )
    if record.architecture != architecture:
        raise ValueError(f"{folder} has models of another architecture: name the function that made them by --model")
    if config.num_seeds > record.config.num_seeds:
        raise ValueError(
            f"num_seeds {config.num_seeds} exceeds the {record.config.num_seeds} of {folder}, whose models the "
            f"originals are: lower it, or extend that run first"
        )


def _draw(config: AuditConfig, before: SeedSplit, seed: int, number: int) -> SeedSplit:
    """Draw a forget set from what the earlier run retained."""
    amount = config.split.rule.amount
    num_forget = round(len(before.retain) * config.split.forget_fraction) if amount is None else int(amount)
    if not 0 < num_forget < len(before.retain):
        raise ValueError(
            f"of the {len(before.retain)} examples that the earlier run retained, {num_forget} would be forgotten: "
            f"change {config.split.rule.amount_option}"
        )
    order = seeded_generator(config.split.seed, 2 + number, seed).permutation(before.retain)
    forget, retain = np.split(order, [num_forget])
    return SeedSplit(retain=np.sort(retain), forget=np.sort(forget), non_members=before.non_members)


def _take(forget: ExampleList, split: Split, before: SeedSplit, seed: int, folder: Path) -> SeedSplit:
    """Take the listed examples out of what the earlier run retained."""
    retained, forgotten = split.pool[before.retain], split.pool[before.forget]
    outside = forget.indices[~np.isin(forget.indices, retained)]
    if len(outside):
        odd = int(outside[0])
        why = "forgot it already" if odd in forgotten else "did not train on it"
        raise ValueError(f"{forget.describe(odd)} cannot be forgotten: {folder} {why} (seed {seed}); leave it out")
    positions = np.searchsorted(split.pool, forget.indices)
    return SeedSplit(retain=np.setdiff1d(before.retain, positions), forget=positions, non_members=before.non_members)


def _common_retain(split: Split, draws: list[SeedSplit]) -> np.ndarray:
    common = set(split.pool[draws[0].retain].tolist())
    for draw in draws[1:]:
        common &= set(split.pool[draw.retain].tolist())
    return np.array(sorted(common), dtype=np.int64)


def _locate(record: RunRecord, folder: Path, method: str, seed: int) -> GivenWeights:
    """Locate the model of a seed; one that is absent has no hash, so that no unit can load it."""
    path = folder.resolve() / place_weights(method, seed)
    if not path.is_file():
        return GivenWeights(path=str(path), sha256="")
    try:
        check_kept_model(record, folder.resolve(), method, seed)
    except store.CorruptResult as error:
        raise ValueError(str(error)) from error
    return locate_weights(path)


def _describe(earlier: EarlierSets, number: int) -> str:
    sizes = sorted({len(forget) for forget in earlier.forget})
    before = f" and of {number} requests before it" if number else ""
    return (
        f"The row Original is the model that {title_of(earlier.method)} made in the run {earlier.run}. Its D is what "
        f"that run retained. The {' or '.join(map(str, sizes))} examples of that request{before} are in no set here. "
        f"Each shadow model is trained on a random half of that run's pool, these examples included."
    )
