"""What a user brings: who is to be forgotten, what the model was trained on, weights; and the sets that follow."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ungan_dist.config import AuditConfig
from ungan_dist.data import layer_draws
from ungan_dist.identity import content_hash
from ungan_dist.models import architecture, build, check_trainable, users_code
from ungan_dist.sources import Source
from ungan_dist.split import Draw, Split, array_hash
from ungan_dist.weights import given_weights, load_given

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
            f"compares the forget set with such examples. Name by given.members (--members) what it was trained on, or "
            f"add a test set"
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
    weights = {"original": given.original, "unlearned": given.unlearned}
    brought = {name: given_weights(path).sha256 for name, path in weights.items() if path is not None}
    if brought:
        notes += [_recipe_note(config, list(brought)), _pixels_note(source)]
    if config.model.factory is not None:
        notes.append(
            f"The model is what {config.model.factory} returns. The run is known by this name and by the names and "
            f"shapes of the model's weights, not by the code behind it: after a change of the code that leaves those "
            f"as they are take another --output."
        )
    return GivenSets(split=split, draw=draw, given_hash=content_hash(facts | brought), notes=notes)


def _recipe_note(config: AuditConfig, brought: list[str]) -> str:
    train, augment = config.train, config.train.augment
    crop = f"a crop from {augment.padding} pixels of padding" if augment.padding else ""
    changed = " and ".join(part for part in (crop, "a flip" if augment.flip else "") if part)
    return (
        f"The weights of {' and '.join(brought)} were given. Shadow models were trained by this run's recipe: "
        f"{train.epochs} epochs of SGD, batch {train.batch_size}, learning rate {train.learning_rate:g} with cosine "
        f"annealing, momentum {train.momentum:g}, weight decay {train.weight_decay:g}, "
        f"{'with ' + changed if changed else 'without augmentation'}. Where the given models were trained otherwise, "
        f"the attack is the weaker for it: set --train.… to what they were trained with."
    )


def _pixels_note(source: Source) -> str:
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (source.mean, source.std))
    return (
        f"Given weights were asked about pixels normalised by mean ({mean}) and deviation ({std}) a channel. Where "
        f"they were trained on pixels normalised otherwise, nothing in this table holds: set --source.mean and "
        f"--source.std."
    )


def check_models(config: AuditConfig, source: Source) -> str:
    """Builds the classifier, loads every given file and asks it for outputs once, before anything is written.

    Returns:
        The architecture of the user's own model; empty where it is one of ours, which its config names whole.

    Raises:
        ValueError: a factory that fails, a model that cannot be trained or does not map pictures to one finite logit a
            class, weights that do not fit or give no numbers.
    """
    files = [path for path in (config.given.original, config.given.unlearned) if path is not None]
    if config.model.factory is None and not files:
        return ""
    channels, classes = source.images.shape[-1], source.num_classes
    model = build(config.model, channels=channels, num_classes=classes, seed=0, device=torch.device("cpu"))
    check_trainable(model)
    pictures = torch.randn(2, channels, *source.images.shape[1:3], generator=torch.Generator().manual_seed(0))
    # in training mode some models return more than logits
    for mode in (True, False):
        if not torch.isfinite(_outputs(model.train(mode), pictures, classes)).all():
            raise ValueError(
                f"the outputs of the model ({type(model).__name__}) are not finite with the weights that it begins "
                f"with: look for what gives infinities or NaN in its layers or its initialisation"
            )
    for path in files:
        loaded = load_given(model, given_weights(path))
        if not torch.isfinite(_outputs(loaded, pictures, classes)).all():
            raise ValueError(f"{path}: with these weights the model's outputs are not finite: the file is no model")
    return "" if config.model.factory is None else architecture(model)


def _outputs(model: nn.Module, pictures: Float[Tensor, "2 channels height width"], classes: int) -> Tensor:
    shape = tuple(pictures.shape[1:])
    with (
        users_code(f"the model cannot take pictures of shape {shape} (channels, height, width): it"),
        torch.no_grad(),
        layer_draws("check"),
    ):
        outputs: object = model(pictures)
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"the model returns {type(outputs).__name__}; logits [batch, {classes}] are needed: let the factory "
            f"return a module whose forward gives them alone"
        )
    if outputs.shape != (2, classes):
        raise ValueError(
            f"the model gives outputs of shape {tuple(outputs.shape[1:])} a picture, {classes} classes are needed: "
            f"let the factory heed num_classes"
        )
    return outputs


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
    indices = _indices(path, words, source)
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


def _indices(path: Path, words: list[str], source: Source) -> Int[np.ndarray, " listed"]:
    """Positions of ids where the data has any of them, else the numbers themselves; never a mixture.

    Where ids are numbers too, a number is an id: read as an index it would name somebody else.
    """
    ids: tuple[str, ...] = source.ids or ()
    positions = {id: position for position, id in enumerate(ids)}
    if any(word in positions for word in words) or (ids and all(id.lstrip("-").isdecimal() for id in ids)):
        repeated = {id for id, count in Counter(ids).items() if count > 1} if len(positions) < len(ids) else set()
        for entry, word in enumerate(words, 1):
            if word not in positions:
                raise ValueError(
                    f"{path}, entry {entry}: the data has no example {word!r}; it has ids such as {next(iter(ids))!r}, "
                    f"and a list holds ids or indices, not both"
                )
            if word in repeated:
                raise ValueError(
                    f"{path}, entry {entry}: more than one example of the data has the id {word!r}: make ids unique"
                )
        return np.array([positions[word] for word in words], dtype=np.int64)
    return np.array([_index(path, entry, word, source) for entry, word in enumerate(words, 1)], dtype=np.int64)


def _index(path: Path, entry: int, word: str, source: Source) -> int:
    # int() would read "1_0" too
    if re.fullmatch(r"[+-]?[0-9]+", word) is None:
        known = f"it has ids such as {source.ids[0]!r}" if source.ids else "it has no ids: list indices"
        raise ValueError(f"{path}, entry {entry}: the data has no example {word!r}; {known}")
    index = int(word)
    if not 0 <= index < len(source.images):
        raise ValueError(f"{path}, entry {entry}: index {index} is out of range, must be 0 … {len(source.images) - 1}")
    return index


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
