"""Derive the sets from a forget list: retain set, non-members, unseen examples and test examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from ungan_dist.config.audit import AuditConfig
from ungan_dist.data.copies import add_copies
from ungan_dist.data.group import Group, check_group, make_class_group
from ungan_dist.data.lists import ExampleList, read_list
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import MEMBER_FRACTION, MEMBER_FRACTION_WITH_TEST, hash_array

UNSEEN_FRACTION = 1 / 6
"""Fraction of a given model's unseen examples that become D_u. As many become the test set, the rest D^s."""
MIN_OUTSIDE = 12


@dataclass(frozen=True, kw_only=True)
class ListSplit:
    """All sets, as indices into the source in increasing order."""

    forget: Int[np.ndarray, " forget"]
    """The listed examples, with their copies if the config adds them."""
    retain: Int[np.ndarray, " retain"]
    non_members: Int[np.ndarray, " non_members"]
    """D^s."""
    unseen: Int[np.ndarray, " unseen"]
    """D_u."""
    test: Int[np.ndarray, " test"]
    group: Group | None = None
    """The classes of the listed examples, if all of their training examples are listed."""
    notes: list[str]
    """Assumptions, for the report."""
    hashes: dict[str, str]
    """Hashes of the sets in a run's identity. Empty for the oldest rule, so that finished runs keep their names."""


def split_around_members(config: AuditConfig, source: Source, forget: ExampleList) -> ListSplit:
    """Derive the sets from given members, or from all examples but the official test examples.

    Non-members outside the official test set are the first to become D^s and D_u. The test set is thus the official one
    if there are enough others.

    Raises:
        ValueError: a list is unreadable, a listed example is no member, or too few retain examples or non-members are
            left.
    """
    notes: list[str] = []
    members = _members(config, source, forget, notes)
    if config.split.forget_copies == "also":
        forget, added = add_copies(forget, source, members)
        notes += added
    retain = np.setdiff1d(members, forget.indices)
    _check_retain(config, forget, retain)
    group = _find_classes(source, forget, retain)
    outside = np.setdiff1d(np.arange(len(source.images)), members)
    _check_outside(len(outside))
    official = np.array([], dtype=np.int64) if source.test is None else np.setdiff1d(source.test, members)
    outside = np.random.default_rng(config.split.seed).permutation(outside)
    outside = outside[np.argsort(np.isin(outside, official), kind="stable")]
    num_unseen = max(2, round(len(outside) * UNSEEN_FRACTION))
    num_non_members = min(len(outside) - 2 * num_unseen, len(members))
    # shadow models take complementary halves of the pool
    num_non_members -= (len(members) + num_non_members) % 2
    unseen, non_members, test = np.split(outside, [num_unseen, num_unseen + num_non_members])
    _check_unlearned_shadows(config, forget, len(members) + len(non_members))
    if len(non_members) != len(members) and not config.attack.quick:
        notes.append(
            f"{len(members):,} examples were trained on and {len(outside):,} were not. {len(non_members):,} of these "
            f"are non-members (D^s), the others are D_u and the test set. Each shadow model is trained on "
            f"{(len(members) + len(non_members)) // 2:,}, fewer than the original, and overfits differently."
        )
    if group is not None:
        compared = np.isin(non_members, group.indices)
        check_group(
            group,
            num_forget=len(forget.indices),
            num_non_members=int(compared.sum()),
            remedy="list fewer training examples with --members, or add a test set with these classes",
        )
    hashes: dict[str, str] = {}
    if 0 < len(official) < len(outside):
        # the test set is at least as large as D_u, so it holds other examples only if fewer are official
        test = np.intersect1d(test, official)
        lent = len(official) - len(test)
        if lent:
            notes.append(
                f"Too few examples beside the official test set were never seen: {lent:,} of its {len(official):,} "
                f"stand in D^s and D_u, and Test % is of the other {len(test):,}."
            )
        # the key is hashed into the run's name, so it keeps its first spelling
        hashes = {"never_seen": hash_array(np.sort(non_members)), "test": hash_array(test)}
    return ListSplit(
        forget=forget.indices,
        retain=retain,
        non_members=np.sort(non_members),
        unseen=np.sort(unseen),
        test=np.sort(test),
        group=group,
        notes=notes,
        hashes=hashes,
    )


def split_in_fixed_pool(config: AuditConfig, source: Source, forget: ExampleList) -> ListSplit:
    """Derive the sets of a model that is trained here, from the forget list alone.

    Data and ``split.seed`` alone fix the pool D ∪ D^s, D_u and the test set, which is the official one or a fraction. D
    is the half of the pool with the forget set, so all lists inside the pool share their shadow models. Listed examples
    outside the pool are exchanged with examples inside. Such a list has its own pool and shadow models.

    Raises:
        ValueError: too few examples, or a list that is too long or holds official test examples.
    """
    everything = np.arange(len(source.images))
    candidates = everything if source.test is None else np.setdiff1d(everything, source.test)
    if not np.isin(forget.indices, candidates).all():
        odd = forget.indices[~np.isin(forget.indices, candidates)][0]
        raise ValueError(
            f"{forget.describe(int(odd))} is an official test example, which is not trained on unless --members "
            f"lists it: leave it out"
        )
    notes: list[str] = []
    if config.split.forget_copies == "also":
        forget, notes = add_copies(forget, source, candidates)
    num_members = round((MEMBER_FRACTION if source.test is None else MEMBER_FRACTION_WITH_TEST) * len(candidates))
    _check_outside(len(candidates) - num_members)
    num_listed = len(forget.indices)
    if (num_members - num_listed) * config.attack.fnr < 1:
        raise ValueError(
            f"{forget.path} lists {num_listed:,} of {len(candidates):,} examples; without --members the original is "
            f"trained on {num_members:,}, which leaves {max(0, num_members - num_listed)} to retain, and attack.fnr "
            f"{config.attack.fnr} needs {round(1 / config.attack.fnr)}: {_more_to_retain(config, num_members)}"
        )
    pool, rest = np.split(np.random.default_rng(config.split.seed).permutation(candidates), [2 * num_members])
    others = pool[~np.isin(pool, forget.indices)]
    strangers = rest[np.isin(rest, forget.indices)]
    if len(strangers):
        others, exchanged = np.split(others, [len(others) - len(strangers)])
        rest[np.isin(rest, strangers)] = exchanged
        own = "a pool" if config.attack.quick else "a pool and shadow models"
        notes.append(
            f"Of the {num_listed:,} listed examples, {len(strangers):,} {'is' if len(strangers) == 1 else 'are'} "
            f"outside the pool that lists without --members share. This list therefore has {own} "
            f"of its own. Lists with the same --members share one pool."
        )
    retain, non_members = np.split(others, [num_members - num_listed])
    retain = np.sort(retain)
    if group := _find_classes(source, forget, retain):
        raise ValueError(
            f"{forget.path} holds every training example of {group.title}, and none would be left that was never seen "
            f"to compare them with. To forget whole classes, give --split.forget in place of the list, such as "
            f"--split.forget {_suggest(source, forget)}: it trains on half of their examples, and forgets these"
        )
    unseen, test = (rest, source.test) if source.test is not None else np.split(rest, [max(2, len(rest) // 2)])
    sets: dict[str, Any] = {"non_members": np.sort(non_members), "unseen": np.sort(unseen), "test": np.sort(test)}
    # the keys are hashed into the run's name, so they keep their first spelling
    hashes = {"never_seen" if name == "non_members" else name: hash_array(values) for name, values in sets.items()}
    return ListSplit(forget=forget.indices, retain=retain, notes=notes, hashes=hashes, **sets)


def _members(config: AuditConfig, source: Source, forget: ExampleList, notes: list[str]) -> Int[np.ndarray, " members"]:
    given = config.given
    everything = np.arange(len(source.images))
    if given.members is not None:
        members = read_list(Path(given.members), source)
        why, remedy = f"it is not in {given.members}", "leave it out, or add it there"
    else:
        members = everything if source.test is None else np.setdiff1d(everything, source.test)
        notes.append(
            f"The original is taken to have been trained on all {len(members):,} training examples of the data."
        )
        why = "without --members, all but the official test examples are members"
        remedy = "leave it out, or list the training examples with --members"
    if not np.isin(forget.indices, members).all():
        odd = forget.indices[~np.isin(forget.indices, members)][0]
        raise ValueError(f"{forget.describe(int(odd))} was not trained on ({why}): {remedy}")
    return members


def _more_to_retain(config: AuditConfig, num_members: int) -> str:
    """Write the remedy for too few examples to retain. A shorter list helps only if the members are enough."""
    if num_members * config.attack.fnr > 1:
        return "shorten the list, or list more training examples with --members"
    return f"add pictures, list the training examples with --members, or set --attack.fnr to {2 / num_members:.2g}"


def _check_outside(num_outside: int) -> None:
    if num_outside < MIN_OUTSIDE:
        raise ValueError(
            f"{num_outside} examples are left that the model has never seen. The attacks need at least {MIN_OUTSIDE}: "
            f"list the training examples with --members, or add a test set"
        )


def _check_retain(config: AuditConfig, forget: ExampleList, retain: Int[np.ndarray, " retain"]) -> None:
    if len(retain) * config.attack.fnr < 1:
        raise ValueError(
            f"{forget.path} leaves {len(retain)} examples to retain; attack.fnr {config.attack.fnr} needs at least "
            f"{round(1 / config.attack.fnr)}: shorten the list, or raise attack.fnr"
        )


def _check_unlearned_shadows(config: AuditConfig, forget: ExampleList, num_pool: int) -> None:
    """Refuse a list as long as a shadow model's half of the pool, of which nothing would be left to retain."""
    if config.attack.unlearned_shadows and len(forget.indices) >= num_pool // 2:
        raise ValueError(
            f"{forget.path} lists {len(forget.indices):,} examples, and each shadow model is trained on "
            f"{num_pool // 2:,}: with attack.unlearned_shadows it forgets as many as the list has, and must retain "
            f"some. Shorten the list, add examples that were never seen, or leave attack.unlearned_shadows out"
        )


def _find_classes(source: Source, forget: ExampleList, retain: Int[np.ndarray, " retain"]) -> Group | None:
    """Return the classes of the listed examples, if none of theirs is left to retain; None if every class has some.

    Raises:
        ValueError: Some listed examples are of such a class, and others are not.
    """
    listed = np.unique(source.labels[forget.indices])
    whole = np.setdiff1d(listed, source.labels[retain])
    if not len(whole):
        return None
    group = replace(make_class_group(whole.tolist(), source), is_drawn=False)
    others = np.setdiff1d(listed, whole)
    if len(others):
        raise ValueError(
            f"{forget.path} holds every training example of {group.title}, but only some of class "
            f"{source.class_names[others[0]]!r}. A model that never saw a class is compared by other examples than one "
            f"that did: list the whole classes in one run, and the other examples in another"
        )
    return group


def _suggest(source: Source, forget: ExampleList) -> str:
    names = [source.class_names[label] for label in np.unique(source.labels[forget.indices])]
    return f"class={names[0]}" if len(names) == 1 else f"classes={','.join(names)}"
