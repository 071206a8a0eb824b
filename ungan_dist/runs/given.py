"""What a user brings: who is to be forgotten, what the model was trained on, weights; and the sets that follow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ungan_dist.attack.evidence import Remedies
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import content_hash
from ungan_dist.data.list_split import split_around_members, split_in_fixed_pool
from ungan_dist.data.lists import read_entries
from ungan_dist.data.seeds import seed_layers
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import SeedSplit, Split, hash_array
from ungan_dist.training.factories import architecture, check_trainable, run_user_code
from ungan_dist.training.models import build
from ungan_dist.training.weights import load_given_weights, locate_weights


@dataclass(frozen=True, kw_only=True)
class GivenSets:
    """The sets of a run that were not drawn at random."""

    split: Split
    draw: SeedSplit
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
    forget = read_entries(Path(given.forget), source)
    trained_here = given.original is None and given.members is None
    sets = (split_in_fixed_pool if trained_here else split_around_members)(config, source, forget)
    notes = [*sets.notes]
    members = np.union1d(sets.retain, forget.indices)
    pool = np.union1d(members, sets.non_members)
    split = Split(pool=pool, unseen=sets.unseen, test=sets.test)
    draw = SeedSplit(
        retain=np.searchsorted(pool, sets.retain),
        forget=np.searchsorted(pool, forget.indices),
        non_members=np.searchsorted(pool, sets.non_members),
    )
    facts = {"forget": hash_array(forget.indices), "members": hash_array(members)} | sets.hashes
    weights = {"original": given.original, "unlearned": given.unlearned}
    brought = {name: locate_weights(path).sha256 for name, path in weights.items() if path is not None}
    if brought:
        notes += [_recipe_note(config, list(brought)), _pixels_note(source)]
    if given.unlearned is not None and given.original is None:
        notes.append(_STAND_IN)
    if config.num_seeds > 1:
        notes.append(
            f"The {config.num_seeds} seeds differ in training alone: every one has the same sets, those of the list. "
            f"Intervals over seeds speak of these examples, and do not say how much others would differ."
        )
    if config.model.factory is not None:
        notes.append(
            f"The model is what {config.model.factory} returns. The run is known by this name and by the names and "
            f"shapes of the model's weights, not by the code behind it: after a change of the code that leaves those "
            f"as they are take another --output."
        )
    return GivenSets(split=split, draw=draw, given_hash=content_hash(facts | brought), notes=notes)


def find_remedies(config: AuditConfig) -> Remedies:
    """What could be more of, given what was given."""
    given = config.given
    return Remedies(more_seeds=given.original is None and given.unlearned is None, forget_list=given.forget is not None)


_STAND_IN = (
    "The row Original is a stand-in: it was trained here by this run's recipe and is not the model that was unlearned, "
    "whose weights --original would name. What the row shows of the attack is shown for the stand-in alone."
)


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
        loaded = load_given_weights(model, locate_weights(path))
        if not torch.isfinite(_outputs(loaded, pictures, classes)).all():
            raise ValueError(f"{path}: with these weights the model's outputs are not finite: the file is no model")
    return "" if config.model.factory is None else architecture(model)


def _outputs(model: nn.Module, pictures: Float[Tensor, "2 channels height width"], classes: int) -> Tensor:
    shape = tuple(pictures.shape[1:])
    with (
        run_user_code(f"the model cannot take pictures of shape {shape} (channels, height, width): it"),
        torch.no_grad(),
        seed_layers("check"),
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
