"""Draw the sets: retain, forget, unseen, non-members and test.

Source: sections 4.1 and 4.2 of the UnGAN paper. The paper omits the split, which its authors published.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Int

from ungan_dist.config.attack import AttackConfig
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import SplitConfig
from ungan_dist.data.group import Group, check_group

MEMBER_FRACTION = 0.4
"""Fraction of the trainable examples that are members, if nothing else is given. As many become non-members; the rest
is D_u and the test set."""
MEMBER_FRACTION_WITH_TEST = 0.45
"""The same with an official test set, as in the paper: the rest is D_u alone."""
COARSER_FNRS = (0.05, 0.1, 0.2)
"""False negative rates for data with too few retain examples for the usual one."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Sets shared by all audit seeds, as indices into the source."""

    pool: Int[np.ndarray, " pool"]
    """D ∪ D^s. Every seed draws D from it, and every shadow model its training examples."""
    unseen: Int[np.ndarray, " unseen"]
    """D_u."""
    test: Int[np.ndarray, " test"]
    """Never used by any training step."""
    group: Group | None = None
    """What is forgotten whole; None if the forget set is random or a mere list."""

    @property
    def has_classes(self) -> bool:
        """Whether whole classes are forgotten."""
        return self.group is not None and self.group.has_classes

    @property
    def is_drawn_class(self) -> bool:
        """Whether whole classes are forgotten, of whose examples those in D were drawn at random."""
        return self.group is not None and self.group.has_classes and self.group.is_drawn

    @property
    def group_in_pool(self) -> Int[np.ndarray, " group"]:
        """Positions of the group in the pool."""
        assert self.group is not None
        return np.flatnonzero(np.isin(self.pool, self.group.indices))

    @property
    def test_of_group(self) -> Int[np.ndarray, " some"]:
        """Test examples of the group."""
        return self.test[:0] if self.group is None else np.intersect1d(self.test, self.group.indices)

    @property
    def test_of_others(self) -> Int[np.ndarray, " some"]:
        """All other test examples."""
        return np.setdiff1d(self.test, self.test_of_group)


@dataclass(frozen=True, kw_only=True)
class SeedSplit:
    """Sets of one audit seed, as positions in the pool in increasing order."""

    retain: Int[np.ndarray, " retain"]
    forget: Int[np.ndarray, " forget"]
    non_members: Int[np.ndarray, " non_members"]
    """D^s, or its part in the group that is forgotten whole: the examples that the forget set is compared with."""
    others: Int[np.ndarray, " others"] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The rest of D^s."""

    @property
    def train(self) -> Int[np.ndarray, " train"]:
        """D = D_r ∪ D_f."""
        return np.sort(np.concatenate([self.retain, self.forget]))


def seeded_generator(*words: int) -> np.random.Generator:
    """Make a random generator from seed words."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


def settle_sizes(config: AuditConfig, num_examples: int, num_test: int) -> tuple[AuditConfig, list[str]]:
    """Replace sizes that follow the data by numbers.

    Args:
        config: The config of a run without a forget list.
        num_examples: Examples in the source, official test examples included.
        num_test: Official test examples.

    Returns:
        The config with all sizes, and a warning if the false negative rate had to be raised for them.

    Raises:
        ValueError: The data are too few.
    """
    split, attack = config.split, config.attack
    if not split.follows_data:
        return config, []
    num_candidates = num_examples - num_test
    fraction = MEMBER_FRACTION_WITH_TEST if num_test else MEMBER_FRACTION
    train = split.train or split.shadow_pool or max(1, round(fraction * num_candidates))
    rest = num_candidates - 2 * train
    unseen = split.unseen or max(1, rest if num_test else rest // 2)
    sized = replace(split, train=train, shadow_pool=train, unseen=unseen)
    num_retain, warnings = train - sized.num_forget, list[str]()
    if attack.fnr == AttackConfig().fnr and num_retain * attack.fnr < 1:
        fnr = next((rate for rate in COARSER_FNRS if num_retain * rate >= 1), attack.fnr)
        warnings.append(
            f"the split follows the data, and its {num_retain:,} retain examples are too few for an FNR of "
            f"{attack.fnr:g}: column (a) is at {fnr:g} (--attack.fnr)"
        )
        attack = replace(attack, fnr=fnr)
    return replace(config, split=sized, attack=attack), warnings


def make_split(
    config: SplitConfig, num_examples: int, test: Int[np.ndarray, " test"] | None, group: Group | None = None
) -> Split:
    """Draw unseen set and pool from the examples that are not official test examples.

    Args:
        config: Sizes and seed.
        num_examples: Examples in the source, official test examples included.
        test: Official test examples; defaults to the examples left over.
        group: What is forgotten whole. It changes none of these sets, so the pool keeps its shadow models.

    Raises:
        ValueError: The source has too few examples for these sizes.
    """
    candidates = np.arange(num_examples) if test is None else np.setdiff1d(np.arange(num_examples), test)
    num_pool = config.train + config.shadow_pool
    num_needed = num_pool + config.unseen + (test is None)
    if num_needed > len(candidates):
        raise ValueError(
            f"the split needs {num_needed} examples (train {config.train} + shadow_pool {config.shadow_pool} + "
            f"unseen {config.unseen}{' + at least 1 to test on' if test is None else ''}), "
            f"the source has {len(candidates)}: lower split.train and split.shadow_pool, or split.unseen"
        )
    order = seeded_generator(config.seed).permutation(candidates)
    pool, unseen, rest = np.split(order, [num_pool, num_pool + config.unseen])
    return Split(pool=np.sort(pool), unseen=np.sort(unseen), test=np.sort(rest if test is None else test), group=group)


def draw_sets(config: SplitConfig, seed: int) -> SeedSplit:
    """Draw D, its forget set and D^s of one audit seed from the fixed pool."""
    order = seeded_generator(config.seed, 1, seed).permutation(config.train + config.shadow_pool)
    forget, retain, non_members = np.split(order, [config.num_forget, config.train])
    return SeedSplit(retain=np.sort(retain), forget=np.sort(forget), non_members=np.sort(non_members))


def list_evaluated_sets(split: Split, draw: SeedSplit) -> dict[str, Int[np.ndarray, " some"]]:
    """List the sets on which the accuracy of an audited model is measured, as indices into the source.

    If classes are forgotten, the test set is also divided into theirs and the others.
    """
    sets = {"retain": split.pool[draw.retain], "forget": split.pool[draw.forget]}
    sets |= {"unseen": split.unseen, "test": split.test}
    if split.group is not None:
        sets["non_members"] = split.pool[draw.non_members]
        divided = {"test_forgotten": split.test_of_group, "test_others": split.test_of_others}
        sets |= {name: some for name, some in divided.items() if len(some) and split.has_classes}
    return sets


def draw_group(config: SplitConfig, split: Split, seed: int) -> SeedSplit:
    """Draw D of one audit seed, with a random half of the group's examples in the pool, and forget that half.

    Raises:
        ValueError: The pool has too few examples of the group, or too few others.
    """
    group = split.group
    assert group is not None
    order = seeded_generator(config.seed, 1, seed).permutation(len(split.pool))
    in_group = np.isin(order, split.group_in_pool)
    mine, rest = order[in_group], order[~in_group]
    num_forget = len(mine) // 2
    check_group(
        group,
        num_forget=num_forget,
        num_non_members=len(mine) - num_forget,
        remedy="raise split.train and split.shadow_pool, or forget more classes",
    )
    num_retain = config.train - num_forget
    if not 0 < num_retain < len(rest):
        raise ValueError(
            f"{group.title} has {len(mine):,} of the {len(order):,} examples of the pool, and D of {config.train:,} "
            f"leaves {max(0, num_retain):,} to retain: forget fewer classes"
        )
    forget, non_members = np.split(mine, [num_forget])
    retain, others = np.split(rest, [num_retain])
    return SeedSplit(
        retain=np.sort(retain), forget=np.sort(forget), non_members=np.sort(non_members), others=np.sort(others)
    )


def hash_array(array: np.ndarray) -> str:
    """Hash an array's type, shape and content with SHA-256."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
