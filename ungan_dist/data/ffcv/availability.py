"""Whether FFCV can be used, and its import without the marks that it leaves."""

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
    """Restores the number of torch threads, which FFCV sets when it is imported and at every pass."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def import_ffcv() -> None:
    """Imports FFCV.

    Raises:
        ImportError: it is not installed, or one of its libraries is missing.
    """
    if sys.version_info >= (3, 12) and "distutils" not in sys.modules:
        # FFCV imports distutils, which left Python with 3.12; setuptools brings its own copy
        importlib.import_module("setuptools")
    with keep_torch_threads():
        importlib.import_module("ffcv")


def find_import_error() -> str | None:
    """Why FFCV cannot be used here; none where it can."""
    try:
        import_ffcv()
    except ImportError as error:
        return str(error)
    return None
