"""Find copies of forget examples among other examples: pictures with the same pixels, or rows with the same features.

A picture that was scaled or compressed again has other pixels, and is no copy here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from ungan_dist.data.lists import Entry, ExampleList
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import SeedSplit, Split

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ForgetCopies:
    """Forget examples that have copies in other sets."""

    sentence: str = ""
    """What was found, with numbers and no names; empty if there are none."""
    named: tuple[str, ...] = ()
    """Ids or indices of the first examples found, which are personal data."""


_HOW = {
    "pixels": "a picture with its own copy. Copies are found pixel for pixel; a picture that was scaled or compressed "
    "again is not.",
    "features": "an example with its own copy. Copies are found feature for feature; an example that differs in a "
    "rounded digit is not.",
}


def _content(source: Source) -> str:
    return "features" if source.has_features else "pixels"


def digest_pixels(content: bytes | memoryview) -> bytes:
    """Digest a picture, so that equal pixels have equal digests."""
    return hashlib.blake2b(content, digest_size=16).digest()


def group_copies(
    images: UInt8[np.ndarray, "examples ..."] | Float[np.ndarray, "examples ..."],
) -> Int[np.ndarray, " examples"]:
    """Number the examples by their pixels or features: copies have the number of the first of them.

    Examples:
        >>> group_copies(np.array([3, 5, 3], np.uint8).reshape(3, 1, 1, 1)).tolist()
        [0, 1, 0]
    """
    first: dict[bytes, int] = {}
    numbers = [first.setdefault(digest_pixels(image.tobytes()), example) for example, image in enumerate(images)]
    return np.array(numbers, np.int64)


def add_copies(
    forget: ExampleList, source: Source, trained_on: Int[np.ndarray, " trained_on"]
) -> tuple[ExampleList, list[str]]:
    """Add the copies of listed examples to a forget list.

    Args:
        forget: The list.
        source: The data.
        trained_on: Examples that may be added.

    Returns:
        The longer list, and a note if anything was added.
    """
    groups = group_copies(source.images)
    others = np.setdiff1d(trained_on, forget.indices)
    copies = others[np.isin(groups[others], groups[forget.indices])]
    if not len(copies):
        return forget, []
    listed = {int(groups[index]): entry for index, entry in zip(forget.indices, forget.entries, strict=True)}
    entries = [
        Entry(f"a copy of {listed[int(groups[copy])].place}", source.ids[copy] if source.ids else str(copy))
        for copy in copies
    ]
    indices = np.concatenate([forget.indices, copies])
    order = np.argsort(indices, kind="stable")
    every = [*forget.entries, *entries]
    longer = ExampleList(
        path=forget.path, indices=indices[order], entries=[every[at] for at in order], by_id=forget.by_id
    )
    note = (
        f"{len(copies):,} examples with the same {_content(source)} as one of the {len(forget.indices):,} listed were "
        f"added to the forget set (--forget-copies also)."
    )
    return longer, [note]


def find_copies(source: Source, split: Split, draws: Sequence[SeedSplit]) -> ForgetCopies:
    """Count the forget examples that have copies among retained examples, and among those never trained on.

    Args:
        source: The data.
        split: The sets that all seeds share.
        draws: The sets of each seed.
    """
    groups = group_copies(source.images)
    if len(np.unique(groups)) == len(groups):
        return ForgetCopies()
    found: list[tuple[int, int, int, int]] = []
    examples: dict[int, None] = {}
    for draw in draws:
        forget = split.pool[draw.forget]
        never = np.concatenate([split.pool[draw.non_members], split.pool[draw.others], split.unseen, split.test])
        among_retained = np.isin(groups[forget], groups[split.pool[draw.retain]])
        among_never = np.isin(groups[forget], groups[never])
        both = among_retained | among_never
        found.append((int(both.sum()), int(among_retained.sum()), int(among_never.sum()), len(forget)))
        examples.update(dict.fromkeys(forget[both].tolist()))
    if not examples:
        return ForgetCopies()
    count, retained, never_seen, num_forget = max(found)
    where = "" if len(draws) == 1 or len(set(found)) == 1 else f", in the worst of {len(draws)} seeds"
    sentence = (
        f"{count:,} of {num_forget:,} forget examples have the same {_content(source)} as other examples{where}: "
        f"{retained:,} have copies in the retain set, {never_seen:,} among examples never trained on. They cannot be "
        f"forgotten: a model learns the retained copies again, and the attack compares "
        f"{_HOW[_content(source)]}"
    )
    if retained:
        sentence += " With a forget list, --forget-copies also adds the copies in the retain set to the forget set."
    first = list(examples)[:_SHOWN]
    return ForgetCopies(
        sentence=sentence,
        named=tuple(source.ids[example] if source.ids else str(example) for example in first),
    )
