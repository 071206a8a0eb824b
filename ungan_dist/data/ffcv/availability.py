"""Import FFCV without its side effects, and find out whether that is possible."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator

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


def import_ffcv() -> None:
    """Import FFCV.

    Raises:
        ImportError: FFCV or one of its libraries is not installed.
    """
    if sys.version_info >= (3, 12) and "distutils" not in sys.modules:
        # FFCV imports distutils, which left Python with 3.12; setuptools brings its own copy
        importlib.import_module("setuptools")
    with keep_torch_threads():
        importlib.import_module("ffcv")


def find_import_error() -> str | None:
    """Return the error of importing FFCV, or None if FFCV can be used."""
    try:
        import_ffcv()
    except ImportError as error:
        return str(error)
    return None
