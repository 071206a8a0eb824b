"""Versions of everything that computes results: packages, and on a GPU its name, driver and cuDNN."""

from __future__ import annotations

import functools
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("ungan-dist", "torch", "torchvision", "triton", "numpy", "scipy")
_DRIVER = Path("/proc/driver/nvidia/version")


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages, and of the GPU if torch can use one."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    return found | (_gpu() if torch.cuda.is_available() else {})


def _gpu() -> dict[str, str]:
    """Describe the GPU; devices of one process are taken to be alike."""
    major, minor = torch.cuda.get_device_capability()
    return {
        "GPU": f"{torch.cuda.get_device_name()} (sm_{major}{minor})",
        "driver": read_driver_version(_DRIVER),
        "CUDA": str(torch.version.cuda),
        "cuDNN": str(torch.backends.cudnn.version()),
    }


@functools.cache
def describe_cpu(path: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model of the processor, or its architecture if the system does not name the model."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", path.read_text(), flags=re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


@functools.cache
def find_commit(package: Path = Path(__file__).parents[1]) -> str | None:
    """Return the commit of the clone that the package runs from, with ``+changes`` if its code differs from it.

    None if the package is installed outside of a clone, or git cannot read it.
    """
    clone = package.parent
    if not (clone / ".git").exists():
        return None
    git, code = ["git", "--no-optional-locks", "-C", str(clone)], (package.name, "kernels", "cluster")
    try:
        answers = [
            subprocess.run([*git, *words], capture_output=True, text=True, check=True, timeout=60).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", *code))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0] + ("+changes" if answers[1] else "")


def read_driver_version(path: Path) -> str:
    """Read the version of NVIDIA's driver from the file in which the kernel shows it."""
    try:
        found = re.search(r"Kernel Module.*?\b(\d+\.[\d.]+)\b", path.read_text())
    except OSError:
        found = None
    return found[1] if found else "unknown"
