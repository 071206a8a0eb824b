"""Find links below a run, behind which a purge would leave forget data."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ungan_dist.errors import ConfigError

_SHARED = ("data", "shadows")


@dataclass(frozen=True, kw_only=True)
class Linked:
    """Files of a purge that are links, or have further names."""

    symbolic: set[str]
    """Symbolic links that lead somewhere; names are relative to the output folder."""
    doubts: list[str]
    """A sentence about each, and about hard links."""


def locate(folder: Path) -> Path:
    """Return the real path of a run folder.

    Raises:
        ConfigError: It is a link, and the data beside the link are not beside the folder.
    """
    real, beside = folder.resolve(), folder.absolute().parent
    if folder.is_symlink():
        apart = [str(beside / name) for name in _SHARED if (beside / name).exists()]
        apart = [path for path in apart if not _is_same(Path(path), real.parent / Path(path).name)]
        if apart:
            raise ConfigError(
                f"{folder} is a symbolic link to {real}, and {' and '.join(apart)} lie beside the link, not beside the "
                f"folder: move the folder to the place of the link, then purge it"
            )
    return real


def _is_same(path: Path, other: Path) -> bool:
    return other.exists() and path.samefile(other)


def find_linked(folder: Path, names: Iterable[str]) -> Linked:
    """Find links among the files of a purge. Symbolic links are not followed, as they may lead to the user's own files.

    Args:
        folder: The run folder.
        names: Files to remove or to change, relative to the output folder.
    """
    output, symbolic, hard = folder.parent, set[str](), list[str]()
    doubts: list[str] = []
    for name in sorted(names):
        path = output / name
        if path.is_symlink():
            if path.exists():  # what a broken link led to is gone
                symbolic.add(name)
                doubts.append(
                    f"{path} is a symbolic link to {path.resolve()}, which purge does not follow: delete what it leads "
                    f"to, then purge again"
                )
        elif path.is_file() and os.stat(path).st_nlink > 1:
            hard.append(name)
    if hard:
        doubts.append(
            f"{len(hard)} files have further names on this disk (hard links), which keep their content: find and "
            f"delete those too. The first is {output / hard[0]}"
        )
    return Linked(symbolic=symbolic, doubts=doubts)
