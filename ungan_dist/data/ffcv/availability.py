"""Import FFCV without its side effects, and find out whether that is possible."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

REMEDY = (
    "install the system packages libopencv-dev, libturbojpeg0-dev, pkg-config and g++ (Debian's names), then "
    "`pip install ungan_dist[ffcv]` (in a checkout: make setup), or take --data.loader resident"
)


@contextlib.contextmanager
def keep_torch_threads() -> Iterator[None]:
    """Restore the number of torch threads, which FFCV sets on import and at every pass."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _without_compiled_dict() -> Iterator[None]:
    """Let FFCV keep its two picture modes in a dict of Python's: to fill one of numba's compiles for 3 s a process.

    FFCV reads them outside of compiled code only.
    """
    typed: Any = importlib.import_module("numba.typed")
    compiled = typed.Dict
    typed.Dict = dict
    try:
        yield
    finally:
        typed.Dict = compiled


def import_ffcv() -> None:
    """Import FFCV.

    Raises:
        ImportError: FFCV or one of its libraries is not installed.
    """
    if sys.version_info >= (3, 12) and "distutils" not in sys.modules:
        # FFCV imports distutils, which left Python with 3.12; setuptools brings its own copy
        importlib.import_module("setuptools")
    if sys.modules.get("ffcv") is None:
        with keep_torch_threads(), _without_compiled_dict():
            importlib.import_module("ffcv")


def find_import_error() -> str | None:
    """Return the error of importing FFCV, or None if FFCV can be used."""
    try:
        import_ffcv()
    except ImportError as error:
        return str(error)
    return None
