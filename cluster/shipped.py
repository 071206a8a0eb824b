"""What a job's working folder consists of: an allowlist of this package's files, and the user's own modules."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from ungan_dist.cluster.secret_lint import find_secrets
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.own.functions import is_own
from ungan_dist.config.own.source import find_own_files, is_installed
from ungan_dist.config.user_code import add_import_path, run_user_code
from ungan_dist.errors import ConfigError

PACKAGE_FILES = ("*.py", "report/*.json", "report/templates/*")
"""Files of the package that a run needs; ``*`` also matches slashes."""
_LINKS = ("kernels", "cluster")
"""Folders of the package that are links in a checkout."""


def list_package_files(package: Path) -> dict[str, Path]:
    """List the package's files that are sent: name in the working folder → file.

    Args:
        package: The package's folder.
    """
    found: dict[str, Path] = {}
    for top in (package, *(package / name for name in _LINKS)):
        for folder, folders, files in os.walk(top):
            folders[:] = [name for name in folders if name.isidentifier() and name != "__pycache__"]
            for name in files:
                path = Path(folder, name)
                inner = path.relative_to(package).as_posix()
                if any(fnmatchcase(inner, pattern) for pattern in PACKAGE_FILES) and name[0] != ".":
                    found[f"{package.name}/{inner}"] = path
    return found


def list_own_files(config: AuditConfig) -> dict[str, Path]:
    """List the files of the user's own methods, training function, augmentation and model, which are imported here.

    Installed packages are left out: the cluster needs them as it needs torch. So are modules that are not on this
    machine.

    Raises:
        ConfigError: A module cannot be imported, or a file has a secret, which every user of the cluster could read.
    """
    train = config.train
    named = [*filter(is_own, config.methods), train.function, train.augment.factory, config.model.factory]
    here = [path for path in named if path and _is_here(path.partition(".")[0].partition(":")[0])]
    try:
        for path in here:
            with run_user_code(f"importing {path}"):
                importlib.import_module(path.partition(":")[0])
    except ValueError as error:
        raise ConfigError(str(error)) from error
    files = find_own_files(here)
    for name, file in files.items():
        if secrets := find_secrets(file.read_bytes().decode(errors="replace")):
            raise ConfigError(
                f"{name} contains {', '.join(secrets)}, which every user of the cluster could read: take it from a "
                f"file or the environment of the nodes"
            )
    return files


def _is_here(top: str) -> bool:
    """Whether a module is on this machine, and neither installed nor Python's own."""
    add_import_path(os.getcwd())
    if top in sys.stdlib_module_names or top == "ungan_dist":
        return False
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # __main__ without a spec
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return not any(is_installed(Path(place)) for place in places)


@contextlib.contextmanager
def copy_code(own: Mapping[str, Path]) -> Iterator[Path]:
    """Copy the package and the user's own files into a temporary folder: no data, no runs, no caches.

    Args:
        own: From ``list_own_files``.
    """
    import ungan_dist

    files = list_package_files(Path(str(ungan_dist.__file__)).parent) | dict(own)
    with tempfile.TemporaryDirectory(prefix="ungan-submit-") as folder:
        for name, file in files.items():
            place = Path(folder, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
        yield Path(folder)
