"""One torch thread, shapes checked on every call, and hypothesis without a clock."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; the last bits depend on it
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when torch imports Triton: kernels then run on the CPU

from hypothesis import settings
from jaxtyping import install_import_hook

# Before any test imports the package: modules imported earlier would stay unchecked.
install_import_hook("ungan_dist", "shapes.checked")

settings.register_profile("ungan_dist", deadline=None, max_examples=50)
settings.load_profile("ungan_dist")
