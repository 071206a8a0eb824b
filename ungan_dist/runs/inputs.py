"""Check that the examples of a run suit its model, its augmentation and its attack."""

from __future__ import annotations

from ungan_dist.config.audit import AuditConfig
from ungan_dist.data.sources.source import Source


def check_inputs(config: AuditConfig, source: Source) -> None:
    """Refuse pictures that are too small for the classifier, and what features cannot have.

    Raises:
        ValueError: They do not suit the config.
    """
    if source.has_features:
        _check_features(config, source)
        return
    height, width = source.images.shape[1:3]
    if min(height, width) < 4:
        raise ValueError(f"images are {height} × {width} pixels; the classifiers need at least 4 × 4")
    if config.train.augment.padding >= min(height, width):
        raise ValueError(
            f"train.augment.padding must be smaller than the images ({height} × {width}), "
            f"got {config.train.augment.padding}"
        )


def _check_features(config: AuditConfig, source: Source) -> None:
    augment, title = config.train.augment, source.title
    if config.model.factory is None and config.model.name != "mlp":
        raise ValueError(
            f"model.name {config.model.name} takes pictures, and {title} holds features: use --model.name mlp, or name "
            f"a function of your own with --model module:function"
        )
    if augment.padding or augment.flip or augment.factory is not None:
        raise ValueError(
            f"train.augment changes pictures, and {title} holds features: leave out train.augment.padding, flip and "
            f"factory"
        )
    if config.shadows.queries != ("plain",):
        raise ValueError(
            f"the attack's queries {', '.join(config.shadows.queries)} move pictures, and {title} holds features: use "
            f"--shadows.queries plain"
        )
    if config.data.loader == "ffcv":
        raise ValueError(f"data.loader ffcv reads pictures, and {title} holds features: use auto or resident")
    if config.report.show_examples:
        raise ValueError(f"report.show_examples shows pictures, and {title} holds features: leave it out")
