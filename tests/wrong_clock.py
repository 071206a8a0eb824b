"""A wrong clock, for one process and its children."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def wrong_clock(folder: Path) -> Path:
    """A library that sets a process's clock an hour ahead."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make a wrong clock with")
    source, library = folder / "clock.c", folder / "clock.so"
    source.write_text(
        "#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n"
        "int clock_gettime(clockid_t id, struct timespec *now) {\n"
        "  int status = syscall(SYS_clock_gettime, id, now);\n"
        "  if (id == CLOCK_REALTIME) now->tv_sec += 3600;\n"
        "  return status;\n}\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return library
