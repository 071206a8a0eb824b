"""Shadow models that unlearn by a method of the run, for U-LiRA (Hayes et al. 2024).

Shadow model i forgets F_i: the part of the forget set that it was trained on, filled up to the size of the forget set
with its other training examples. Where a group such as a class is forgotten whole, it forgets all of its examples of
the group. The rest of its training examples is its retain set. It starts from the weights that its unit kept, which are
read by their hash.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import content_hash
from ungan_dist.data.membership import draw_members
from ungan_dist.data.prepared import PreparedData
from ungan_dist.data.seeds import derive_seed
from ungan_dist.data.split import SeedSplit
from ungan_dist.files import hash_bytes
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.targets import TargetUnit, train_target
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.evaluate import query
from ungan_dist.training.precision import use_precision
from ungan_dist.training.train import use_threads
from ungan_dist.training.weights import load_state, read_safetensors

PAIR = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class UnlearnedShadowUnit:
    """A complementary pair of shadow models that unlearn one seed's forget set by one method."""

    id: str
    """Hash of everything that determines the result."""
    target: TargetUnit
    """The method under this seed."""
    shadow: ShadowUnit
    """The unit that trained the shadow models."""
    shadows: tuple[int, ...]
    """Ids of the pair."""

    @property
    def title(self) -> str:
        """Name for progress and for lists of missing units."""
        return f"{self.method} on shadow models {self.shadows[0]}–{self.shadows[-1]}, seed {self.seed}"

    @property
    def num_models(self) -> int:
        """Number of models that this unit unlearns."""
        return len(self.shadows)

    @property
    def run(self) -> str:
        """The run folder, absolute."""
        return self.target.run

    @property
    def method(self) -> str:
        return self.target.method

    @property
    def seed(self) -> int:
        return self.target.seed

    @property
    def prepared(self) -> PreparedData:
        return self.target.prepared

    @property
    def _name(self) -> str:
        return f"unlearned_shadows/{self.seed}/{self.method}/{self.shadows[0]}"

    @property
    def marker(self) -> str:
        """Name of the marker, relative to the run folder."""
        return f"{self._name}.json"

    @property
    def log_odds_file(self) -> str:
        return f"{self._name}.npy"

    @property
    def files(self) -> list[str]:
        """Names of the files of a result, relative to the run folder."""
        return [self.log_odds_file]

    @property
    def checkpoints(self) -> list[str]:
        """Names of the checkpoints, one per model."""
        return [f"checkpoints/{self.seed}/{self.method}-shadow-{shadow}" for shadow in self.shadows]

    def move(self, output: Path) -> UnlearnedShadowUnit:
        """Return the unit with another output folder, which is no part of its id."""
        prepared = dataclasses.replace(self.prepared, output=str(output))
        run = str(output / Path(self.run).name)
        target = dataclasses.replace(self.target, prepared=prepared, run=run)
        return dataclasses.replace(self, target=target, shadow=dataclasses.replace(self.shadow, prepared=prepared))

    def as_target(self, shadow: int) -> TargetUnit:
        """Return the unlearning of one shadow model as that of a target, with its own sets and draws."""
        (members,) = draw_members([shadow], len(self.shadow.pool), self.shadow.seed)
        split, forget = self.target.split, self.target.draw.forget
        if split.group is None:
            draw = draw_shadow_sets(forget, members, self.seed, shadow)
        else:
            draw = forget_group(split.group_in_pool, members)
        return dataclasses.replace(self.target, draw=draw, seed=derive_seed("unlearned shadow", self.seed, shadow))


def draw_shadow_sets(
    forget: Int[np.ndarray, " forget"], members: Bool[np.ndarray, " pool"], seed: int, shadow: int
) -> SeedSplit:
    """Draw what one shadow model forgets and retains; all methods share the draw.

    Args:
        forget: D_f, positions in the pool.
        members: whether the model was trained on an example.
        seed: the audit seed.
        shadow: id of the model.

    Examples:
        >>> members = np.array([True, True, True, False, False, False])
        >>> draw = draw_shadow_sets(np.array([0, 4]), members, seed=0, shadow=0)
        >>> len(draw.forget), 0 in draw.forget, 4 in draw.forget, len(draw.retain)
        (2, True, False, 1)
    """
    had = forget[members[forget]]
    others = np.setdiff1d(np.flatnonzero(members), had)
    generator = np.random.Generator(np.random.Philox(derive_seed("forgotten beside", seed, shadow)))
    filled = generator.choice(others, len(forget) - len(had), replace=False)
    return SeedSplit(
        forget=np.sort(np.concatenate([had, filled])),
        retain=np.setdiff1d(others, filled),
        non_members=np.flatnonzero(~members),
    )


def forget_group(group: Int[np.ndarray, " group"], members: Bool[np.ndarray, " pool"]) -> SeedSplit:
    """Return what one shadow model forgets and retains if a group is forgotten whole.

    Args:
        group: positions of the group in the pool.
        members: whether the model was trained on an example.
    """
    had = np.flatnonzero(members)
    in_group = np.isin(had, group)
    return SeedSplit(forget=had[in_group], retain=had[~in_group], non_members=np.flatnonzero(~members))


def make_unlearned_shadows(
    config: AuditConfig, unlearning: Sequence[TargetUnit], shadows: Sequence[ShadowUnit]
) -> list[UnlearnedShadowUnit]:
    """Make the units that a config asks for, those of one method and seed together.

    Shadow models unlearn once, however often the method unlearns an original.
    """
    return [
        UnlearnedShadowUnit(
            id=content_hash({"target": target.id, "trained by": unit.id, "shadows": list(pair)}),
            target=target,
            shadow=unit,
            shadows=pair,
        )
        for target in unlearning
        if target.method in config.attack.unlearned_shadows
        and target.seed < config.attack.unlearned_seeds
        and not target.unlearning
        for unit in shadows
        for pair in _divide_into_pairs(unit)
    ]


def _divide_into_pairs(unit: ShadowUnit) -> Iterator[tuple[int, ...]]:
    for first in range(0, unit.num_models, PAIR):
        yield unit.shadows[first : first + PAIR]


@dataclass(frozen=True, kw_only=True)
class UnlearnedShadows:
    """The unlearned models of a unit, queried."""

    log_odds: Float[np.ndarray, "models forget queries"]
    """On D_f, in its order."""
    seconds: list[float]
    """T_U of each model."""


def unlearn_shadows(unit: UnlearnedShadowUnit, checkpoints: Sequence[Checkpoint]) -> UnlearnedShadows:
    """Unlearn a unit's shadow models one after the other, in one process, and query each on the forget set.

    Raises:
        CorruptResult: the weights of a shadow model were not kept, or differ from those that were committed.
        Diverged: an unlearned model has diverged.
    """
    log_odds: list[np.ndarray] = []
    seconds: list[float] = []
    for shadow, checkpoint in zip(unit.shadows, checkpoints, strict=True):
        virtual = unit.as_target(shadow)
        done = train_target(
            virtual, checkpoint=checkpoint, load_original=functools.partial(load_shadow, unit.shadow, shadow)
        )
        data = done.request.data
        forget = torch.from_numpy(virtual.split.pool[unit.target.draw.forget]).to(data.device)
        with use_threads(virtual.train.num_threads), use_precision("fp32"):
            log_odds.append(query(done.model, data, forget, virtual.queries))
        seconds.append(done.seconds)
    return UnlearnedShadows(log_odds=np.stack(log_odds), seconds=seconds)


def load_shadow(unit: ShadowUnit, shadow: int, model: nn.Module) -> nn.Module:
    """Load the kept weights of a shadow model, if their hash is the committed one.

    Raises:
        CorruptResult: the weights were not kept, or differ from those that were committed.
    """
    root, name = Path(unit.prepared.output), unit.weights_file(shadow)
    for one in (unit, dataclasses.replace(unit, weights_only=True)):
        expected = _read_hashes(one).get(name)
        if expected is None:
            continue
        content = (root / name).read_bytes() if (root / name).is_file() else b""
        if hash_bytes(content) != expected:
            raise store.CorruptResult(
                f"{root / name} is absent or differs from the weights that were committed: delete {root / one.marker} "
                f"and run again, which trains these shadow models anew"
            )
        return load_state(model, root / name, read_safetensors(root / name, content))
    raise store.CorruptResult(
        f"{root / name} was not kept with shadow model {shadow}: run again with --attack.unlearned-shadows, which "
        f"trains it anew"
    )


def find_missing_weights(units: Iterable[UnlearnedShadowUnit]) -> list[ShadowUnit]:
    """Return the units of shadow models whose log-odds were committed without weights, to be trained for them alone.

    Weights that were trained so and have been damaged since are trained again.
    """
    trained = {unit.shadow.id: unit.shadow for unit in units}
    found: list[ShadowUnit] = []
    for unit in trained.values():
        again = dataclasses.replace(unit, weights_only=True)
        kept, root = _read_hashes(unit), Path(unit.prepared.output)
        without = bool(kept) and not set(again.files) <= set(kept)
        if without and store.committed(root, again.marker, id=again.id, files=again.files) is None:
            found.append(again)
    return found


def find_kept_weights(units: Iterable[UnlearnedShadowUnit]) -> list[ShadowUnit]:
    """Return the units of shadow models that were trained again for their weights alone."""
    again = {unit.shadow.id: dataclasses.replace(unit.shadow, weights_only=True) for unit in units}
    return [unit for unit in again.values() if _read_hashes(unit)]


def _read_hashes(unit: ShadowUnit) -> dict[str, str]:
    """Return the files of a committed unit with their hashes; empty without a readable marker of this unit."""
    try:
        content = store.read_marker(Path(unit.prepared.output) / unit.marker)
    except (OSError, store.CorruptResult):
        return {}
    return content["files"] if content["id"] == unit.id else {}
