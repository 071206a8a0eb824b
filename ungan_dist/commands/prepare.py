"""``ungan-dist prepare``: write a recipe's data as one file for FFCV."""

from __future__ import annotations

from pathlib import Path

from ungan_dist.files import escape_controls

USAGE = """\
usage: ungan-dist prepare RECIPE [--rebuild] [OPTIONS]

Write a recipe's data as one .beton file, from which FFCV serves every split, method and shadow model. The manifest
beside it has its hash. A run with --data.loader ffcv writes the file when it needs it. An intact file is kept;
--rebuild writes it again, for example after damage.

Small images are stored as pixels. Large ones keep their JPEG files if these decode to exactly the same pixels.
OPTIONS are those of `ungan-dist run RECIPE --help`. Only --source and --output have an effect.
"""


def main(arguments: list[str]) -> int:
    """Write the file, or check the existing one."""
    from ungan_dist.commands.options import recipe_config

    rebuild = "--rebuild" in arguments
    config = recipe_config([word for word in arguments if word != "--rebuild"], command="prepare")

    from ungan_dist.data.ffcv.file import BetonLocation, prepare_beton
    from ungan_dist.data.sources.source import load_source
    from ungan_dist.errors import ConfigError
    from ungan_dist.urls import is_url

    if is_url(config.output):
        raise ConfigError(f"prepare writes a folder, not to {config.output}: a run uploads what it needs by itself")
    try:
        source = load_source(config.source)
    except (ValueError, OSError) as error:
        raise ConfigError(str(error)) from error
    if source.has_features:
        raise ConfigError(
            f"prepare writes pictures for FFCV, and {source.title} holds features: a run needs no such file"
        )
    place = BetonLocation(output=Path(config.output).resolve(), data_hash=source.content_hash)
    try:
        facts = prepare_beton(source, place, rebuild=rebuild)
    except OSError as error:
        raise ConfigError(f"cannot write {place.path} ({error.strerror}): choose another --output") from error
    num_examples, height, width, channels = facts["shape"]
    print(
        f"{source.title}: {num_examples:,} pictures of {height} × {width} × {channels}, {facts['num_jpegs']:,} as JPEG"
    )
    print(escape_controls(str(place.path)))
    return 0
