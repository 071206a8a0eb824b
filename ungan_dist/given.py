"""What a user brings: who is to be forgotten, what the model was trained on, weights; and the sets that follow."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from ungan_dist.config import AuditConfig, GivenConfig
from ungan_dist.identity import content_hash
from ungan_dist.models import build
from ungan_dist.sources import Source
from ungan_dist.split import Draw, Split, array_hash
from ungan_dist.weights import file_hash, load_given

MEMBERS_SHARE = 0.4
"""Of all examples, trained on where neither weights nor members are given; as many stay never seen."""
UNSEEN_SHARE = 1 / 6
"""Of the examples that the model has not seen: D_u, and as many to test on; the rest are never-seen ones, D^s."""
MIN_OUTSIDE = 12


@dataclass(frozen=True, kw_only=True)
class GivenSets:
    """The sets of a run that were not drawn at random."""

    split: Split
    draw: Draw
    given_hash: str
    """Over what was given: lists by their indices, weights by their bytes."""
    notes: list[str]
    """What was assumed, for the report."""


def given_sets(config: AuditConfig, source: Source) -> GivenSets:
    """Sets from a forget list.

    Raises:
        ValueError: a list that cannot be read, names what the data lacks, repeats itself, is empty or leaves nothing;
            no example that the model has never seen; weights that do not fit the model.
        OSError: a file that is not there.
    """
    given = config.given
    assert given.forget is not None
    num_examples = len(source.images)
    forget = read_list(Path(given.forget), source)
    notes: list[str] = []
    members = _members(config, source, forget, notes)
    if not np.isin(forget, members).all():
        odd = forget[~np.isin(forget, members)][0]
        raise ValueError(
            f"{given.forget}: example {odd} was not trained on (it is not in {given.members}): leave it out"
        )
    retain = np.setdiff1d(members, forget)
    _check_retain(config, source, retain, forget)
    outside = np.setdiff1d(np.arange(num_examples), members)
    if len(outside) < MIN_OUTSIDE:
        raise ValueError(
            f"{len(outside)} examples are left that the model has never seen, at least {MIN_OUTSIDE} are needed: LiRA "
            f"compares the forget set with such examples. Name by given.members what it was trained on, or add a test "
            f"set"
        )
    outside = np.random.default_rng(config.split.seed).permutation(outside)
    num_unseen = max(2, round(len(outside) * UNSEEN_SHARE))
    num_never_seen = min(len(outside) - 2 * num_unseen, len(members))
    # shadow models take complementary halves of the pool
    num_never_seen -= (len(members) + num_never_seen) % 2
    unseen, never_seen, test = np.split(outside, [num_unseen, num_unseen + num_never_seen])
    pool = np.sort(np.concatenate([members, never_seen]))
    if len(never_seen) != len(members):
        notes.append(
            f"Only {len(never_seen):,} examples were never seen, {len(members):,} were trained on: each shadow model "
            f"is trained on {len(pool) // 2:,}, fewer than the original, and overfits differently."
        )
    split = Split(pool=pool, unseen=np.sort(unseen), test=np.sort(test))
    draw = Draw(
        retain=np.searchsorted(pool, retain),
        forget=np.searchsorted(pool, forget),
        never_seen=np.searchsorted(pool, np.sort(never_seen)),
    )
    facts = {"forget": array_hash(forget), "members": array_hash(members)}
    if given.original is not None:
        facts["original"] = file_hash(given.original)
        notes.append(
            f"The original was given. Shadow models were trained by this run's recipe ({config.train.epochs} epochs of "
            f"SGD, batch {config.train.batch_size}, learning rate {config.train.learning_rate:g}), which the "
            f"original's own may differ from: set --train.… to what it was trained with."
        )
    return GivenSets(split=split, draw=draw, given_hash=content_hash(facts), notes=notes)


def check_models(config: AuditConfig, source: Source) -> None:
    """Builds the classifier and loads every given file once, before anything is written.

    Raises:
        ValueError: a factory that fails, a model of another output, weights that do not fit.
    """
    given: GivenConfig = config.given
    if config.model.factory is None and given.original is None and given.unlearned is None:
        return
    channels = source.images.shape[-1]
    model = build(config.model, channels=channels, num_classes=source.num_classes, seed=0, device=torch.device("cpu"))
    for path in (given.original, given.unlearned):
        if path is not None:
            load_given(model, Path(path))
    picture = torch.zeros(2, channels, *source.images.shape[1:3])
    try:
        with torch.no_grad():
            shape = tuple(model.eval()(picture).shape)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(f"the model cannot take pictures of shape {tuple(picture.shape[1:])}: {error}") from error
    if shape != (2, source.num_classes):
        raise ValueError(
            f"the model gives outputs of shape {shape[1:]} a picture, {source.num_classes} classes are needed"
        )


def read_list(path: Path, source: Source) -> Int[np.ndarray, " listed"]:
    """Indices from a list of indices or ids: one a line (text; CSV, first column), or an integer array (.npy).

    Raises:
        ValueError: unreadable, empty, repeated, or naming what the data lacks.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: name a list of examples (CSV, text or .npy)")
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is no array that can be read without unpickling: {error}") from error
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(f"{path} must be one row of integers, got {array.dtype} of shape {array.shape}")
        words = [str(value) for value in array.tolist()]
    else:
        words = _words(path)
    if not words:
        raise ValueError(f"{path} lists no example: name at least one")
    indices = np.array([_index(path, line, word, source) for line, word in enumerate(words, 1)], dtype=np.int64)
    values, counts = np.unique(indices, return_counts=True)
    if (counts > 1).any():
        raise ValueError(f"{path} lists example {values[counts > 1][0]} more than once: list each once")
    return values


def _words(path: Path) -> list[str]:
    """The first column, without a heading that is neither number nor id."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text: a list is CSV, text or .npy") from error
    words = [row[0].strip() for row in csv.reader(text.splitlines()) if row and row[0].strip()]
    return words[1:] if words and words[0].lower() in ("id", "ids", "index", "indices", "example", "forget") else words


def _index(path: Path, line: int, word: str, source: Source) -> int:
    if source.ids is not None and word in _positions(source):
        return _positions(source)[word]
    try:
        index = int(word)
    except ValueError:
        known = f"ids such as {source.ids[0]!r}" if source.ids else "no ids: list indices"
        raise ValueError(f"{path}, entry {line}: the data has no example {word!r}; it has {known}") from None
    if not 0 <= index < len(source.images):
        raise ValueError(f"{path}, entry {line}: index {index} is out of range, must be 0 … {len(source.images) - 1}")
    return index


def _positions(source: Source) -> dict[str, int]:
    # one data set a process: kept on the object that it belongs to
    known = source.__dict__.get("_positions")
    if known is None:
        known = {id: position for position, id in enumerate(source.ids or ())}
        source.__dict__["_positions"] = known
    return known


def _members(
    config: AuditConfig, source: Source, forget: Int[np.ndarray, " forget"], notes: list[str]
) -> Int[np.ndarray, " members"]:
    given = config.given
    everything = np.arange(len(source.images))
    if given.members is not None:
        return read_list(Path(given.members), source)
    if given.original is not None:
        members = everything if source.test is None else np.setdiff1d(everything, source.test)
        notes.append(
            f"The original is taken to have been trained on all {len(members):,} training examples of the data."
        )
        return members
    others = np.random.default_rng(config.split.seed).permutation(np.setdiff1d(everything, forget))
    num_members = max(round(MEMBERS_SHARE * len(everything)), len(forget))
    return np.sort(np.concatenate([forget, others[: num_members - len(forget)]]))


def _check_retain(
    config: AuditConfig, source: Source, retain: Int[np.ndarray, " retain"], forget: Int[np.ndarray, " forget"]
) -> None:
    name = config.given.forget
    if len(retain) * config.attack.fnr < 1:
        raise ValueError(
            f"{name} leaves {len(retain)} examples to retain; attack.fnr {config.attack.fnr} needs at least "
            f"{round(1 / config.attack.fnr)}: shorten the list, or raise attack.fnr"
        )
    orphans = np.setdiff1d(source.labels[forget], source.labels[retain])
    if len(orphans):
        raise ValueError(
            f"{name} holds every example of class {source.class_names[orphans[0]]!r}: the retained data has none left "
            f"to keep the class alive; leave some out, or remove the class from the data"
        )
