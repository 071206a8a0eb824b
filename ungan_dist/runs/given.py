"""Make the sets of a run from the user's lists, and notes about given files for the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from ungan_dist.attack.evidence import Remedies
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import content_hash
from ungan_dist.config.run_model import find_run_model
from ungan_dist.data.list_split import split_around_members, split_in_fixed_pool
from ungan_dist.data.lists import read_entries
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import SeedSplit, Split, hash_array
from ungan_dist.training.given_weights import GivenWeights, locate_given_weights
from ungan_dist.training.recipe import describe_recipe


@dataclass(frozen=True, kw_only=True)
class EarlierSets:
    """The forget sets of an earlier request, whose unlearned models are the originals."""

    run: str
    """Name of the run's folder."""
    method: str
    """The method that forgot them."""
    forget: list[Int[np.ndarray, " forget"]]
    """Positions in the pool, for each audit seed."""


@dataclass(frozen=True, kw_only=True)
class GivenSets:
    """The sets of a run with a forget list, or with models of an earlier run."""

    split: Split
    draws: list[SeedSplit]
    """The sets of each audit seed."""
    given_hash: str
    """Hash of the given lists (by indices) and weights (by names and values)."""
    earlier_hash: str
    """The same with the hashes of the files of weights, by which earlier versions knew a run."""
    weights: dict[str, GivenWeights]
    """The given files: ``original``, ``unlearned`` and ``retrained``, as far as there are any."""
    notes: list[str]
    """Assumptions, for the report."""
    originals: tuple[GivenWeights, ...] = ()
    """Models of an earlier run, one for each audit seed, in place of a file."""
    earlier: tuple[EarlierSets, ...] = ()
    """What earlier runs have forgotten already, the first request first."""


def given_sets(config: AuditConfig, source: Source) -> GivenSets:
    """Make the sets from the forget list and the list of members.

    Raises:
        ValueError: a list is unreadable, empty, has unknown or repeated examples, or leaves too few for another set.
        OSError: a file does not exist.
    """
    given = config.given
    assert given.forget is not None
    forget = read_entries(Path(given.forget), source)
    trained_here = given.original is None and given.members is None
    sets = (split_in_fixed_pool if trained_here else split_around_members)(config, source, forget)
    notes = [*sets.notes]
    members = np.union1d(sets.retain, sets.forget)
    pool = np.union1d(members, sets.non_members)
    split = Split(pool=pool, unseen=sets.unseen, test=sets.test, group=sets.group)
    is_compared = np.isin(sets.non_members, sets.non_members if sets.group is None else sets.group.indices)
    draw = SeedSplit(
        retain=np.searchsorted(pool, sets.retain),
        forget=np.searchsorted(pool, sets.forget),
        non_members=np.searchsorted(pool, sets.non_members[is_compared]),
        others=np.searchsorted(pool, sets.non_members[~is_compared]),
    )
    facts = {"forget": hash_array(sets.forget), "members": hash_array(members)} | sets.hashes
    weights = locate_given_weights(given)
    brought = {name: file.identity for name, file in weights.items()}
    earlier = {name: file.sha256 for name, file in weights.items()}
    if brought:
        notes += [_recipe_note(config, list(brought)), _scaling_note(source)]
    if given.unlearned is not None and given.original is None:
        notes.append(_STAND_IN)
    if config.num_seeds > 1:
        notes.append(
            f"The {config.num_seeds} seeds differ in training alone, because all of them have the sets of the list. "
            f"Intervals of the AUC and the gap carry the variance of the examples too; those of other shares do not."
        )
    if config.model.factory is not None:
        notes.append(
            f"The model is made by {config.model.factory}. The run is identified by this name and by the names and "
            f"shapes of the model's weights, not by the code behind it. After a change of the code that keeps those "
            f"names and shapes, use another --output."
        )
    return GivenSets(
        split=split,
        draws=[draw] * config.num_seeds,
        given_hash=content_hash(facts | brought),
        earlier_hash=content_hash(facts | earlier),
        weights=weights,
        notes=notes,
    )


def find_remedies(config: AuditConfig) -> Remedies:
    """Return the ways in which this run could reach a smaller δ."""
    given = config.given
    is_file = given.original is not None and find_run_model(given.original) is None
    is_fixed = is_file or any((given.unlearned, given.retrained))
    return Remedies(
        more_seeds=not is_fixed,
        forget_list=given.forget is not None,
        forgets_classes=config.split.rule.kind == "class",
        amount_option="" if config.split.rule.kind == "subclass" else config.split.rule.amount_option,
    )


_STAND_IN = (
    "The row Original is a stand-in: it was trained here by this run's recipe and is not the model that was unlearned. "
    "What the row shows of the attack holds for the stand-in alone. Give the weights of that model with --original."
)


def _recipe_note(config: AuditConfig, brought: list[str]) -> str:
    if config.attack.quick:
        return f"The weights of {' and '.join(brought)} were given."
    return (
        f"The weights of {' and '.join(brought)} were given. Shadow models were trained by this run's recipe: "
        f"{describe_recipe(config.train)}. If the given models were trained otherwise, the attack is weaker: set "
        f"--train.… to the values with which they were trained."
    )


def _scaling_note(source: Source) -> str:
    if source.has_features:
        scaled = (
            "standardised by the mean and standard deviation of each, as measured here" if source.mean else "as read"
        )
        remedy = "scale them as those models need" + (", and set --source.no-standardise" if source.mean else "")
        return (
            f"The given models were evaluated on features {scaled}. If they were trained on features that were scaled "
            f"otherwise, nothing in this table holds: {remedy}."
        )
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (source.mean, source.std))
    return (
        f"The given models were evaluated on pixels normalised by mean ({mean}) and standard deviation ({std}) per "
        f"channel. If they were trained with another normalisation, nothing in this table holds: set --source.mean "
        f"and --source.std."
    )
