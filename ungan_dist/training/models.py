"""Classifiers: build, split into stages, copy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ungan_dist.config.training import MemoryFormat, ModelConfig
from ungan_dist.config.user_code import run_user_code
from ungan_dist.data.seeds import derive_seed
from ungan_dist.training.copying import copy_model
from ungan_dist.training.factories import call_factory, read_model_options
from ungan_dist.training.first_layer import fit_first_layer


class SmallCNN(nn.Module):
    """Three convolutions with batch norm, global average pooling and a linear layer, in four ``stages``."""

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                _convolution(channels, width, pool=True),
                _convolution(width, 2 * width, pool=True),
                _convolution(2 * width, 4 * width, pool=False),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, num_classes)),
            ]
        )

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        for stage in self.stages:
            images = stage(images)
        return images


def _convolution(channels_in: int, channels_out: int, *, pool: bool) -> nn.Sequential:
    layers = [
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


def _resnet18(channels: int, num_classes: int, *, cifar_stem: bool) -> nn.Module:
    """Build torchvision's ResNet-18; the CIFAR stem is 3×3 with stride 1 and no max-pool."""
    import torchvision  # takes four seconds, so imported for a ResNet only

    model = torchvision.models.resnet18(weights=None, num_classes=num_classes)
    if cifar_stem:
        model.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
        model.maxpool = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return model


PATCH = 4
"""Side of a patch of the small ViT in pixels."""


def _vit_small(channels: int, num_classes: int, size: tuple[int, ...]) -> nn.Module:
    """Build torchvision's VisionTransformer for small images.

    Raises:
        ValueError: the images are no squares of whole patches.
    """
    import torchvision

    height, width = size
    if height != width or height % PATCH:
        raise ValueError(
            f"model.name vit_small needs square images whose side is a multiple of {PATCH} pixels, got {height} × "
            f"{width}: resize pictures with --source.resize"
        )
    model = torchvision.models.VisionTransformer(
        image_size=height,
        patch_size=PATCH,
        num_layers=6,
        num_heads=6,
        hidden_dim=192,
        mlp_dim=768,
        num_classes=num_classes,
    )
    if channels != 3:
        model.conv_proj = nn.Conv2d(channels, 192, PATCH, stride=PATCH)
    return model


def _mlp(shape: tuple[int, ...], num_classes: int, widths: tuple[int, ...]) -> nn.Module:
    """Build linear layers with ReLU between them, which take examples of a shape, flattened."""
    sizes = (math.prod(shape), *widths)
    hidden = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes[-1], num_classes))


def build(
    config: ModelConfig,
    *,
    channels: int,
    num_classes: int,
    seed: int,
    device: torch.device,
    size: tuple[int, ...] | None = None,
    fit: bool = True,
) -> nn.Module:
    """Build a classifier with the initial weights of a seed; the global random state is unchanged.

    Args:
        config: The architecture. Its ``initial_seed`` takes the place of ``seed``.
        channels: Channels of the images; of a table, the number of its columns.
        num_classes: Number of classes.
        seed: Seed of the initial weights.
        device: Device of the model.
        size: Height and width of the images, which a ViT needs; empty for a table. The first layer of a user's model is
            fitted to the channels of images; without a size, it is not.
        fit: Whether it is fitted at all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("weights", seed if config.initial_seed is None else config.initial_seed))
        if config.factory is not None:
            model: nn.Module = call_factory(
                config.factory, channels, num_classes, size=size, options=read_model_options(config.options)
            )
            if size is not None and fit:
                fit_first_layer(model, channels, size)
        elif config.name == "small_cnn":
            model = SmallCNN(channels, num_classes, config.width)
        elif config.name == "vit_small":
            assert size is not None, "a ViT has a position for each patch"
            model = _vit_small(channels, num_classes, size)
        elif config.name == "mlp":
            assert size is not None, "the first layer of an MLP has a weight for each feature"
            model = _mlp((channels, *size), num_classes, config.widths)
        else:
            model = _resnet18(channels, num_classes, cifar_stem=config.name == "resnet18_cifar")
    with run_user_code(f"the model cannot be moved to {device}: that"):
        return model.to(device)


def use_memory_format(model: nn.Module, config: ModelConfig, memory_format: MemoryFormat) -> nn.Module:
    """Lay out a model's weights in memory, in place, as ``train.memory_format`` requires."""
    return model.to(memory_format=torch.channels_last) if is_channels_last(model, config, memory_format) else model


def is_channels_last(model: nn.Module, config: ModelConfig, memory_format: MemoryFormat) -> bool:
    """Return whether a classifier is trained in channels_last.

    ``auto`` leaves a user's model as it is, because ``view`` after a convolution raises in channels_last.
    """
    if memory_format != "auto":
        return memory_format == "channels_last"
    convolutions = (one for one in model.modules() if isinstance(one, nn.Conv2d))
    return config.factory is None and any(one.in_channels >= 3 for one in convolutions)


def stages(model: nn.Module) -> list[nn.Module]:
    """List the stages of a classifier in the order of the forward pass; the last is its classifying layer.

    Raises:
        ValueError: the model has no stages with parameters.
    """
    if isinstance(model, SmallCNN):
        return list(model.stages)
    names = ("conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc")
    if all(hasattr(model, name) for name in names):
        stem, rest = names[:2], names[2:]
        return [nn.ModuleList(map(model.get_submodule, stem)), *map(model.get_submodule, rest)]
    if all(hasattr(model, name) for name in ("conv_proj", "class_token", "encoder", "heads")):
        return _stages_of_vit(model)
    # a user's model: its children in order of definition, with nn.Sequential expanded once
    parts = [part for child in model.children() for part in (child if isinstance(child, nn.Sequential) else [child])]
    parts = [part for part in parts if any(True for _ in part.parameters())]
    if not parts:
        raise ValueError(f"{type(model).__name__} has no stages with parameters, which CF-k needs")
    return parts


def _stages_of_vit(model: Any) -> list[nn.Module]:
    """List the stages of torchvision's VisionTransformer: patches with their positions, each layer, the head."""
    encoder = model.encoder
    tokens = nn.ParameterList([model.class_token, encoder.pos_embedding])
    return [nn.ModuleList([model.conv_proj, tokens]), *encoder.layers, nn.ModuleList([encoder.ln, model.heads])]


def frozen_copy(model: nn.Module, rebuild: Callable[[], nn.Module] | None = None) -> nn.Module:
    """Return a copy in eval mode whose parameters take no gradient.

    Args:
        rebuild: see ``copy_model``.
    """
    return copy_model(model, rebuild).eval().requires_grad_(False)


def trainable_copy(
    model: nn.Module, like: nn.Module | None = None, rebuild: Callable[[], nn.Module] | None = None
) -> nn.Module:
    """Return a copy in training mode; parameters that the factory froze, such as a pretrained backbone, stay frozen.

    Args:
        like: a model whose parameters' ``requires_grad`` the copy takes over; defaults to the model itself.
        rebuild: see ``copy_model``.
    """
    duplicate = copy_model(model, rebuild).train()
    for parameter, built in zip(duplicate.parameters(), (model if like is None else like).parameters(), strict=True):
        parameter.requires_grad_(built.requires_grad)
    return duplicate
