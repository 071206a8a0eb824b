"""One torch thread, shapes checked on every call, and hypothesis without a clock."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; the last bits depend on it

from hypothesis import settings
from jaxtyping import install_import_hook

# Before any test imports the package: modules imported earlier would stay unchecked.
install_import_hook("ungan_dist", "shapes.checked")

settings.register_profile("ungan_dist", deadline=None, max_examples=50)
settings.load_profile("ungan_dist")
