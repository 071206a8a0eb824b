"""The complete config of a run: the experiment, the options of every method, and how to execute it.

Imports neither torch nor numpy, so that ``--help`` is instant. Ranges are checked on construction.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from ungan_dist.config.attack import ALL, MIN_SHADOWS, NOT_UNLEARNED, UNLEARNED_SHADOWS, AttackConfig
from ungan_dist.config.checks import ADDED, positive
from ungan_dist.config.data import SourceConfig, SplitConfig
from ungan_dist.config.execution import BudgetConfig, ExecutionHalf
from ungan_dist.config.forget_rule import EXTREMES
from ungan_dist.config.methods import DEFAULT_ROWS, ROWS, MethodConfigs, UnlearnedConfig, check_method
from ungan_dist.config.methods.own import OwnMethodConfig
from ungan_dist.config.own.functions import is_own, refuse_same_names
from ungan_dist.config.own.options import read_options
from ungan_dist.config.own.source import read_sources, settle_sources
from ungan_dist.config.own.training import settle_training_sources
from ungan_dist.config.run_model import find_run_model
from ungan_dist.config.training import ModelConfig, ShadowConfig, TrainConfig

LEAST_SEEDS = 3
"""Fewest seeds of a first look: with fewer, an interval holds for these models only."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Data, model, training, attack, and the methods to compare."""

    name: str
    """The recipe's name."""
    source: SourceConfig = field(default_factory=SourceConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    shadows: ShadowConfig = field(default_factory=ShadowConfig)
    attack: AttackConfig = field(default_factory=AttackConfig)
    methods: tuple[str, ...] = field(default=DEFAULT_ROWS, metadata={"known": tuple(ROWS)})
    """Rows of the table, in order; a longer list extends a run. ``module:function`` is a method of your own, whose
    options follow as ``--function.option``."""
    num_seeds: int = 1
    """Audit seeds 0 … num_seeds − 1; each redraws D and D_f from the pool. A larger number extends a run."""
    own_options: tuple[str, ...] = field(default=(), metadata=ADDED | {"derived": True})
    """Options of methods of your own that differ from their defaults, as ``module:function.option=JSON``. In Python,
    give ``recipes.…(own_options=[MyOptions(rate=0.1)])``."""
    own_methods: tuple[str, ...] = field(default=(), metadata=ADDED | {"derived": True})
    """Methods of your own, as ``module:function=HASH`` of their source. It follows from ``methods``."""
    num_unlearnings: int = field(default=1, metadata=ADDED)
    """Unlearnings of each original by each method, and retrainings, with different seeds. From two on, the report
    splits the variance by stage. They cannot replace seeds: the interval of a verdict counts originals. A larger number
    extends a run."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig(ExecutionHalf, MethodConfigs, Experiment):
    """One run: split, train originals and shadow models, unlearn, score, report.

    Examples:
        >>> AuditConfig(name="mine", num_seeds=3).shadows.num_models
        256
    """

    # The fields, and with them the options in --help, come in the reverse order of the bases.

    def __post_init__(self) -> None:
        positive(num_seeds=self.num_seeds, num_unlearnings=self.num_unlearnings)
        if self.shadows.shared_initialisation and self.model.initial_seed is None:
            object.__setattr__(self, "model", dataclasses.replace(self.model, initial_seed=self.shadows.seed))
        if not self.cluster or self.cluster.startswith("ray://"):
            raise ValueError(
                f"cluster must be local, auto or host:port, got {self.cluster!r} (a Ray client connection cannot "
                f"carry a fleet: run on a node of the cluster, or submit the run with ungan-dist submit)"
            )
        for name in self.methods:
            check_method(name)
        self._settle_own_functions()
        if self.train.warmup_epochs >= self.train.epochs:
            raise ValueError(
                f"train.warmup_epochs must be smaller than train.epochs ({self.train.epochs}), got "
                f"{self.train.warmup_epochs}"
            )
        first_fall = self.train.warmup_epochs + self.train.step_epochs
        if self.train.schedule == "step" and self.train.function is None and first_fall >= self.train.epochs:
            raise ValueError(
                f"train.schedule step never acts: its first fall is after epoch {first_fall}, warm-up included, of "
                f"train.epochs {self.train.epochs}. Set train.step_epochs to fewer than "
                f"{self.train.epochs - self.train.warmup_epochs}"
            )
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise ValueError(f"methods must name at least one method, each once, got {self.methods}")
        if "original" not in self.methods:
            raise ValueError(f"methods must include original, from which the others start, got {self.methods}")
        if "unlearned" in self.methods and self.given.unlearned is None:
            raise ValueError("the row unlearned needs its weights: name them by --unlearned (given.unlearned)")
        if self.given.retrained and "retrain" not in self.methods:
            raise ValueError("--retrained gives the weights of the row retrain: add retrain to --methods")
        is_file = find_run_model(self.given.original) is None and self.given.original is not None
        if self.given.original is not None and not is_file:
            self._check_sequence()
        given = is_file or self.given.members or self.given.unlearned or self.given.retrained
        if self.given.forget is None and given:
            how = ", with every training example of the class" if self.split.rule.is_class else ""
            raise ValueError(f"given weights or members need a forget list{how}: name it by --forget (given.forget)")
        brought = [name for name in ("unlearned", "retrained") if getattr(self.given, name)]
        if brought and not (self.given.original or self.given.members):
            raise ValueError(
                f"--{brought[0]} needs the training set of the model: name it by --members (given.members), or give "
                f"--original if the model was trained on all of the training data"
            )
        self._settle_forget()
        if self.split.forget_copies == "also" and self.given.forget is None:
            raise ValueError("--forget-copies also adds copies to a forget list: name the list by --forget")
        for name in ("original", "unlearned", "retrained"):
            if getattr(self.given, f"{name}_key") is not None and getattr(self.given, name) is None:
                raise ValueError(f"--{name}-key chooses among the weights of a file: name the file by --{name}")
        if self.num_seeds > 1 and (is_file or brought):
            raise ValueError(
                f"given weights are one model, the same under every seed, so an interval over {self.num_seeds} seeds "
                f"would have no width: leave num_seeds at 1"
            )
        if self.attack.quick:
            object.__setattr__(self, "shadows", dataclasses.replace(self.shadows, num_models=0))
        elif self.shadows.num_models < MIN_SHADOWS:
            raise ValueError(
                f"the attack needs at least {MIN_SHADOWS} shadow models, two trained with each example and two "
                f"without; got shadows.num_models {self.shadows.num_models}"
            )
        self._check_budget()
        if self.attack.unlearned_shadows:
            self._settle_unlearned_shadows()
        if self.given.forget is not None and self.split.follows_data:
            # the sets follow from the list; the sizes are unused, and hashed as they always were
            object.__setattr__(self, "split", _fill_sizes(self.split))
        num_retain = self.split.train - self.split.num_forget
        is_known = not self.split.follows_data and not self.split.rule.is_class
        if is_known and num_retain * self.attack.fnr < 1:
            raise ValueError(
                f"attack.fnr {self.attack.fnr} needs at least {round(1 / self.attack.fnr)} retain examples, "
                f"the split has {num_retain}: raise split.train or attack.fnr, or lower {self.split.rule.amount_option}"
            )

    def _settle_forget(self) -> None:
        """Check that ``split.forget`` and a forget list do not contradict each other."""
        rule = self.split.rule
        if rule.kind == "list":
            if self.given.forget is None:
                raise ValueError("split.forget list needs the list: name it by --given.forget (custom: also --forget)")
            # a list alone means the same, and both are one run
            object.__setattr__(self, "split", dataclasses.replace(self.split, forget="random"))
        elif self.split.forget != "random" and self.given.forget is not None:
            raise ValueError(
                f"split.forget {self.split.forget} and the list {self.given.forget} both say what to forget: give one"
            )

        if rule.kind in EXTREMES and self.given.scores is None:
            raise ValueError(
                f"split.forget {self.split.forget} goes by the shadow models of an earlier run with the same data and "
                f"sizes: name its folder by --given.scores, after ungan-dist export RUN --records"
            )
        if rule.kind not in EXTREMES and self.given.scores is not None:
            raise ValueError("given.scores is for split.forget hardest and easiest: leave it out")

    def _settle_own_functions(self) -> None:
        """Hash the source of every function of the user's own, unless the hash is known from a record."""
        if self.train.function is not None and self.shadows.engine not in ("auto", "serial"):
            raise ValueError(
                f"train.function {self.train.function} has steps of its own, which shadows.engine "
                f"{self.shadows.engine} cannot take: use serial or auto"
            )
        object.__setattr__(self, "train", settle_training_sources(self.train))
        refuse_same_names(self.methods, [entry.name for entry in dataclasses.fields(AuditConfig)])
        object.__setattr__(self, "own_methods", settle_sources(self.methods, self.own_methods))

    def _check_sequence(self) -> None:
        """Refuse what a model of an earlier run as the original excludes."""
        if self.given.members:
            raise ValueError("--members follows from the run that --original names: leave it out")
        if self.given.original_key:
            raise ValueError("--original-key chooses among the weights of a file, and --original names a run's model")
        if self.attack.unlearned_shadows:
            raise ValueError(
                "attack.unlearned_shadows needs shadow models that forgot the earlier request first, and there are "
                "none: leave it out where --original names a run's model"
            )

    def _check_budget(self) -> None:
        if self.until != "decided":
            if self.budget != BudgetConfig():
                raise ValueError("budget.… limits what --until decided adds: give --until decided, or no budget")
            return
        if self.attack.quick:
            raise ValueError(
                "--until decided needs verdicts, which --attack.quick does not give: leave one of them out"
            )
        if self.given.original or self.given.unlearned or self.given.retrained:
            raise ValueError("--until decided adds seeds, and given weights are one model: leave it out")
        if self.num_seeds < LEAST_SEEDS:
            raise ValueError(
                f"--until decided begins with num_seeds, of which an interval needs at least {LEAST_SEEDS} to know "
                f"their spread; got num_seeds {self.num_seeds}"
            )
        for name, first in (("max_seeds", self.num_seeds), ("max_shadows", self.shadows.num_models)):
            most = getattr(self.budget, name)
            if most is not None and most < first:
                raise ValueError(f"budget.{name} must be at least {first}, with which the run begins; got {most}")

    def _settle_unlearned_shadows(self) -> None:
        """Replace ``all`` by the methods that it stands for, and check the rest."""
        elsewhere = (*NOT_UNLEARNED, *(["retrain"] if self.given.retrained else []))
        known = [name for name in self.methods if name not in elsewhere]
        named = self.attack.unlearned_shadows
        named = tuple(known) if named == (ALL,) else named
        unknown = [name for name in named if name not in known]
        if unknown or len(set(named)) != len(named) or not named:
            raise ValueError(
                f"attack.unlearned_shadows must be {ALL}, or name methods of this run that unlearn, each once; got "
                f"{', '.join(named) or 'none'}; known: {', '.join(known) or 'none'}"
            )
        if self.shadows.num_models < UNLEARNED_SHADOWS:
            raise ValueError(
                f"attack.unlearned_shadows needs at least {UNLEARNED_SHADOWS} shadow models, of which a model and its "
                f"partner are left out at a time; got shadows.num_models {self.shadows.num_models}"
            )
        if self.attack.unlearned_seeds > self.num_seeds:
            raise ValueError(
                f"attack.unlearned_seeds {self.attack.unlearned_seeds} exceeds num_seeds {self.num_seeds}: shadow "
                f"models unlearn the forget sets of the run's own seeds"
            )
        object.__setattr__(self, "attack", dataclasses.replace(self.attack, unlearned_shadows=named))


def _fill_sizes(split: SplitConfig) -> SplitConfig:
    usual = SplitConfig()
    train = split.train or split.shadow_pool or usual.train
    return dataclasses.replace(split, train=train, shadow_pool=train, unseen=split.unseen or usual.unseen)


APPEND_ONLY_FIELDS = ("methods", "num_seeds", "shadows.num_models")
"""Fields that extend a run; earlier results stay valid."""
LATER_APPEND_ONLY_FIELDS = ("attack.unlearned_shadows", "attack.unlearned_seeds", "own_methods", "num_unlearnings")
"""The same, of fields that are younger than existing runs: they are left out at their defaults."""


def method_config(config: AuditConfig, name: str) -> Any:
    """Return the options of one row of the table.

    Raises:
        ValueError: unknown row.
    """
    check_method(name)
    if is_own(name):
        source = read_sources(config.own_methods).get(name, "")  # it may be in another report of the run
        return OwnMethodConfig(path=name, source=source, options=read_options(name, config.own_options))
    row, given = ROWS[name], config.given
    if row.field is None:
        return UnlearnedConfig(weights=given.unlearned or "", key=given.unlearned_key)
    if name == "retrain" and given.retrained:
        return UnlearnedConfig(weights=given.retrained, key=given.retrained_key)
    return dataclasses.replace(getattr(config, row.field), **row.changes)
