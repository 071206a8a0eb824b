"""Draw the sets of a run without a forget list: at random, or with a group that is forgotten whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import content_hash
from ungan_dist.data.group import find_group, make_extreme_group
from ungan_dist.data.memorisation import read_memorisation
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import SeedSplit, Split, draw_group, draw_sets, hash_array, make_split


class DrawnSets(NamedTuple):
    """The sets of a run."""

    split: Split
    draws: list[SeedSplit]
    """The sets of each audit seed."""
    given_hash: str
    """Hash of what settings and data do not determine, such as a list or the meaning of a class's name; else empty."""


def draw_all_sets(config: AuditConfig, source: Source) -> DrawnSets:
    """Draw the sets that all seeds share, and those of each seed.

    Raises:
        ValueError: The source has too few examples, or no such class.
    """
    rule = config.split.rule
    split = make_split(config.split, len(source.images), source.test, find_group(rule, source))
    if config.given.scores is not None:
        scores = read_memorisation(Path(config.given.scores), source.labels)
        split = replace(split, group=make_extreme_group(rule, scores, split.pool, config.split.num_forget))
    group = split.group
    seeds = range(config.num_seeds)
    if group is None:
        return DrawnSets(split, [draw_sets(config.split, seed) for seed in seeds], "")
    draws = [draw_group(config.split, split, seed) for seed in seeds]
    num_retain = len(draws[0].retain)
    if num_retain * config.attack.fnr < 1:
        raise ValueError(
            f"attack.fnr {config.attack.fnr} needs at least {round(1 / config.attack.fnr)} retain examples, and "
            f"without {group.title} there are {num_retain}: raise split.train or attack.fnr"
        )
    # neither a class's name nor the scores are part of the data's hash
    return DrawnSets(split, draws, content_hash({"group": hash_array(group.indices)}))
