"""Recipes: functions that return a complete config.

Each takes new values for fields of ``AuditConfig``, such as ``digits(num_seeds=3, train={"epochs": 10})``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ungan_dist.config.attack import AttackConfig
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.changes import change
from ungan_dist.config.data import SourceConfig, SplitConfig
from ungan_dist.config.methods import DEFAULT_ROWS, UNGAN_VARIANTS, NegGradsConfig
from ungan_dist.config.training import AugmentConfig, ModelConfig, ShadowConfig, TrainConfig


def digits(**changes: Any) -> AuditConfig:
    """Handwritten digits, bundled: the whole audit in minutes on a laptop, 64 shadow models, 5 seeds.

    Examples:
        >>> digits().shadows.num_models, digits(num_seeds=3, train={"epochs": 10}).train.epochs
        (64, 10)
    """
    config = AuditConfig(
        name="digits",
        source=SourceConfig(kind="digits"),
        split=SplitConfig(train=675, shadow_pool=675, unseen=150, forget_fraction=0.2),
        model=ModelConfig(name="small_cnn", width=16),
        # a mirrored digit would be another class, hence no flip
        train=TrainConfig(epochs=50, batch_size=64, learning_rate=0.05, augment=AugmentConfig(padding=1)),
        shadows=ShadowConfig(num_models=64, queries=("plain", "shift")),
        attack=AttackConfig(delta=0.05),
        num_seeds=5,
        # the default's ten passes are 30 steps here, from a loss of 0.01: too few to move the model
        neg_grads=NegGradsConfig(epochs=30),
    )
    return change(config, **changes)


def digits_table(**changes: Any) -> AuditConfig:
    """The digits as a table of 64 numbers, and an MLP that memorises 400 of them: 64 shadow models, 5 seeds.

    The audit of tables, on data that need no download. The original is right on every training example and on nine of
    ten others, so that an attack has something to find.

    Examples:
        >>> digits_table().model.name, digits_table().split.num_forget
        ('mlp', 120)
    """
    config = AuditConfig(
        name="digits-table",
        source=SourceConfig(kind="digits_table"),
        split=SplitConfig(train=400, shadow_pool=400, unseen=150, forget_fraction=0.3),
        model=ModelConfig(name="mlp"),
        train=TrainConfig(epochs=40, batch_size=32, learning_rate=0.05),
        shadows=ShadowConfig(num_models=64),
        attack=AttackConfig(delta=0.1),
        num_seeds=5,
    )
    return change(config, **changes)


def cifar10_tiny(**changes: Any) -> AuditConfig:
    """Two hundred of 1,000 CIFAR-10 images to forget, from a small CNN that memorises them: it leaks by design.

    Without augmentation and after 40 epochs, the original is right on most training images and on half of the test
    images, so that an attack has something to find. 32 shadow models, 5 seeds.

    Examples:
        >>> cifar10_tiny().split.num_forget
        200
    """
    config = AuditConfig(
        name="cifar10-tiny",
        source=SourceConfig(kind="cifar10"),
        split=SplitConfig(train=1000, shadow_pool=1000, unseen=1000, forget_fraction=0.2),
        model=ModelConfig(name="small_cnn", width=16),
        train=TrainConfig(epochs=40, batch_size=64, learning_rate=0.1),
        shadows=ShadowConfig(num_models=32, unit_size=2, queries=("plain",)),
        attack=AttackConfig(delta=0.05),
        num_seeds=5,
    )
    return change(config, **changes)


def cifar10_small(**changes: Any) -> AuditConfig:
    """Four hundred of 2,000 CIFAR-10 images to forget: cifar10-tiny with twice the data, and 64 shadow models.

    Examples:
        >>> cifar10_small().split.num_forget
        400
    """
    config = cifar10_tiny(name="cifar10-small", split={"train": 2000, "shadow_pool": 2000}, shadows={"num_models": 64})
    return change(config, **changes)


def paper(**changes: Any) -> AuditConfig:
    """Table 1: CIFAR-10, torchvision's ResNet-18 with its ImageNet stem, 128 shadow models, 8 seeds. For a GPU.

    The paper states neither augmentation nor the size of D. Crop and flip are added; 22,500 examples agree with its
    T_d = 4 and T_f = 88 at batch size 256.

    Examples:
        >>> paper().model.name
        'resnet18'
    """
    config = AuditConfig(
        name="paper",
        source=SourceConfig(kind="cifar10"),
        split=SplitConfig(train=22_500, shadow_pool=22_500, unseen=5_000, forget_fraction=0.05),
        model=ModelConfig(name="resnet18"),
        train=TrainConfig(epochs=40, batch_size=256, learning_rate=0.1, augment=AugmentConfig(padding=4, flip=True)),
        shadows=ShadowConfig(num_models=128, queries=("plain",)),
        num_seeds=8,
    )
    return change(config, **changes)


def paper_notebooks(**changes: Any) -> AuditConfig:
    """Table 1 with what the authors' notebooks add: shared initial weights, medians in LiRA, UnGAN with BCE. For a GPU.

    All 128 shadow models, the original and Retrain begin with the weights of seed 42 there, and LiRA's Gaussians are
    centred at the median. The code of the paper's own UnGAN is not among the notebooks; both forms are rows here.

    Examples:
        >>> paper_notebooks().model.initial_seed, paper_notebooks().attack.center
        (42, 'median')
    """
    config = change(
        paper(),
        name="paper-notebooks",
        methods=(*DEFAULT_ROWS, "ungan_bce", "ungan_bce_random_critic"),
        model=ModelConfig(name="resnet18", initial_seed=42),
        attack=AttackConfig(center="median"),
    )
    return change(config, **changes)


def cifar10_resnet18(**changes: Any) -> AuditConfig:
    """The paper's split with the CIFAR stem, 256 shadow models, 2 queries, 3 seeds. For several GPUs.

    Examples:
        >>> cifar10_resnet18().shadows.num_models
        256
    """
    config = change(
        paper(),
        name="cifar10-resnet18",
        model=ModelConfig(name="resnet18_cifar"),
        shadows=ShadowConfig(num_models=256, queries=("plain", "flip")),
        num_seeds=3,
    )
    return change(config, **changes)


def fidelity(**changes: Any) -> AuditConfig:
    """The other readings of the paper, one factor at a time, 3 seeds. Exploratory: it never changes a default.

    Examples:
        >>> fidelity().methods[:3]
        ('original', 'retrain', 'ungan')
    """
    config = change(
        paper(),
        name="fidelity",
        methods=("original", "retrain", "ungan", *UNGAN_VARIANTS),
        num_seeds=3,
    )
    return change(config, **changes)


def cifar10_vit(**changes: Any) -> AuditConfig:
    """The paper's split with a small ViT trained by AdamW: 128 shadow models, 3 seeds. For a GPU.

    Patches have 4 × 4 pixels. One cycle of the learning rate, smoothed labels and clipped gradients let it train from
    scratch. CF-k and UnGAN keep their own optimizers.

    Examples:
        >>> cifar10_vit().train.optimizer
        'adamw'
    """
    train = TrainConfig(
        epochs=100,
        batch_size=256,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        schedule="one_cycle",
        label_smoothing=0.1,
        gradient_clipping=1.0,
        augment=AugmentConfig(padding=4, flip=True),
    )
    config = change(paper(), name="cifar10-vit", model=ModelConfig(name="vit_small"), train=train, num_seeds=3)
    return change(config, **changes)


def custom(
    *,
    model: str | None = None,
    data: str | Path | None = None,
    original: str | Path | None = None,
    forget: str | Path | None = None,
    members: str | Path | None = None,
    unlearned: str | Path | None = None,
    retrained: str | Path | None = None,
    **changes: Any,
) -> AuditConfig:
    """Audit your own model and data: --model module:function --original WEIGHTS --source.path DATA --forget LIST.

    Args:
        model: ``module:function`` that returns the nn.Module; defaults to a small CNN.
        data: Parquet file or folder, image folder, or .npz file of features and labels.
        original: weights of the original; by default it is trained here.
        forget: list of the examples to forget; by default they are drawn at random.
        members: list of the examples that the original was trained on.
        unlearned: weights of a model that was unlearned elsewhere. The table then has only this row and Original.
        retrained: weights of a model that was trained without the forget set, for the row Retrain.
        changes: new values for other fields of the config.

    Examples:
        >>> custom(model="mypackage.models:build", data="pictures", forget="forget.csv").model.factory
        'mypackage.models:build'
    """
    config = AuditConfig(
        name="custom",
        source=SourceConfig(kind="auto"),
        split=SplitConfig(train=0, shadow_pool=0, unseen=0),
        train=TrainConfig(epochs=20, batch_size=64, learning_rate=0.05),
        shadows=ShadowConfig(num_models=64),
        attack=AttackConfig(delta=0.05),
    )
    given = {"original": original, "forget": forget, "members": members, "unlearned": unlearned, "retrained": retrained}
    config = change(config, source={"path": data}, model={"factory": model}, given=given)
    rows = {} if unlearned is None else {"methods": ("original", *(["retrain"] if retrained else []), "unlearned")}
    return change(config, **rows | changes)


def cifar100(**changes: Any) -> AuditConfig:
    """CIFAR-100 under the paper's recipe: its split, ResNet-18 with the CIFAR stem, 128 shadow models. For a GPU.

    Examples:
        >>> cifar100().source.kind
        'cifar100'
    """
    config = change(
        paper(),
        name="cifar100",
        source=SourceConfig(kind="cifar100"),
        model=ModelConfig(name="resnet18_cifar"),
        num_seeds=3,
    )
    return change(config, **changes)


RECIPES: dict[str, Callable[..., AuditConfig]] = {
    "digits": digits,
    "cifar10-tiny": cifar10_tiny,
    "cifar10-small": cifar10_small,
    "digits-table": digits_table,
    "paper": paper,
    "paper-notebooks": paper_notebooks,
    "cifar10-resnet18": cifar10_resnet18,
    "cifar10-vit": cifar10_vit,
    "fidelity": fidelity,
    "cifar100": cifar100,
    "custom": custom,
}
"""Name on the command line → recipe."""
