"""A user's own models, as ``module:function``."""

from __future__ import annotations

from torch import Tensor, nn


def mobile(num_classes: int) -> nn.Module:
    """Torchvision's MobileNetV3, small."""
    from torchvision.models import mobilenet_v3_small

    return mobilenet_v3_small(weights=None, num_classes=num_classes)


def linear(num_classes: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, num_classes))


def raising(num_classes: int) -> nn.Module:
    raise RuntimeError("out of ideas")


def no_module(num_classes: int) -> int:
    return num_classes


def too_few_outputs(num_classes: int, channels: int) -> nn.Module:
    return linear(num_classes - 1, channels)


def dropping(num_classes: int, channels: int) -> nn.Module:
    pool, flat, classify = linear(num_classes, channels).children()
    return nn.Sequential(pool, flat, classify, nn.Dropout(0.5))


class _WithFeatures(nn.Module):
    """Returns features and logits during training, as some of torchvision's models do."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.classify = linear(num_classes, channels)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.classify(images)
        return (logits, images) if self.training else logits


def with_features(num_classes: int, channels: int) -> nn.Module:
    return _WithFeatures(num_classes, channels)


class _Named(nn.Module):
    """Returns its outputs in a dict."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"features": images, self.name: self.model(images)}


def with_named_logits(num_classes: int, channels: int) -> nn.Module:
    return _Named(linear(num_classes, channels), "logits")


def without_logits(num_classes: int, channels: int) -> nn.Module:
    return _Named(linear(num_classes, channels), "scores")


def for_eight_pixels(num_classes: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * channels, num_classes))


class _Wide(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.last = nn.Linear(192, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(images.flatten(1))


def keywords(*, weights: str | None = None, progress: bool = True, **kwargs: int) -> nn.Module:
    """Pass all keywords on, as torchvision's and timm's functions do."""
    return _Wide(**kwargs)


def flat(num_classes: int, channels: int) -> nn.Module:
    """A linear model on every pixel of 64 × 64, which memorises its examples."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64 * 64 * channels, num_classes))


def perceptron(num_classes: int, features: int, width: int = 8) -> nn.Module:
    """For rows of a table."""
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, num_classes))
