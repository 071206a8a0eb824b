"""Make a picture classifier of the library transformers from its config, with new weights; nothing is downloaded."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ungan_dist.config.user_code import run_user_code


def make_from_config(
    name: str, channels: int, num_classes: int, size: tuple[int, ...] | None, options: Mapping[str, Any]
) -> nn.Module:
    """Make a model by the name of its class, or from a folder with its ``config.json``.

    The config receives the number of classes and of channels. That of a class also receives the size of the pictures;
    a folder keeps its own. The weights in a folder are not read: they may have learned the forget examples.

    Args:
        name: A class such as ``ViTForImageClassification``, or a path.
        channels: Channels of the pictures.
        num_classes: Number of classes.
        size: Height and width of the pictures, if they are known.
        options: Further values of the config, by name.

    Raises:
        ValueError: transformers is not installed, there is no such class or folder, the config has no such options, or
            the library refuses them.
    """
    subject = f"model.factory transformers:{name}"
    if size is not None and len(size) != 2:
        raise ValueError(f"{subject} takes pictures, and the data hold features: use --model.name mlp")
    with run_user_code(f"{subject}: importing transformers, which the extra transformers installs,"):
        library: Any = importlib.import_module("transformers")
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        with run_user_code(f"{subject}: reading its config"):
            config = library.AutoConfig.from_pretrained(str(folder), local_files_only=True)
        make: Any = library.AutoModelForImageClassification.from_config
    else:
        make = getattr(library, name, None)
        if getattr(make, "config_class", None) is None:
            raise ValueError(
                f"{subject}: transformers {library.__version__} has no model of this name, and there is no "
                f"{folder / 'config.json'}: name a class such as ViTForImageClassification, or a local folder"
            )
        config = make.config_class()
        if size is not None and hasattr(config, "image_size"):
            config.image_size = size[0] if size[0] == size[1] else list(size)
    config.num_labels = num_classes
    if hasattr(config, "num_channels"):
        config.num_channels = channels
    if unknown := [one for one in options if not hasattr(config, one)]:
        raise ValueError(f"model.options: the config of {subject} has no {', '.join(unknown)}")
    for option, value in options.items():
        setattr(config, option, value)
    with run_user_code(subject):
        return make(config)
