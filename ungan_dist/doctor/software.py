"""Python, packages, torch and CUDA, Triton, FFCV: each does something small, in a process of its own.

What is broken may end a process or raise at import, so this module imports none of them.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from ungan_dist.doctor.finding import Finding, failure, ok, warning

PATIENCE_S = 180
SETUP = "install anew: make setup, or pip install --force-reinstall ungan_dist"


def check_python() -> Finding:
    """The interpreter, against what the installed package asks for."""
    wanted = str(metadata.metadata("ungan-dist").json.get("requires_python", ""))
    here = sys.version_info[:2]
    least = re.fullmatch(r">=\s*(\d+)\.(\d+)", wanted)
    if least and here < tuple(map(int, least.groups())):
        return failure(
            "python",
            f"{platform.python_version()}, but {wanted} is needed",
            "make setup PYTHON=python3.11, with an interpreter that is new enough",
        )
    return ok("python", f"{platform.python_version()} ({sys.executable})")


def check_packages() -> Finding:
    """Every package that the installed one requires, by its metadata."""
    absent: list[str] = []
    required = [line for line in metadata.requires("ungan-dist") or [] if "extra ==" not in line]
    if sys.platform != "linux":
        required = [line for line in required if "sys_platform" not in line]
    for line in required:
        name = re.match(r"[A-Za-z0-9_.-]+", line)
        assert name is not None
        try:
            metadata.version(name.group())
        except metadata.PackageNotFoundError:
            absent.append(name.group())
    if absent:
        return failure("packages", f"not installed: {', '.join(absent)}", SETUP)
    return ok("packages", f"all {len(required)} are installed")


_TORCH = """\
import torch
a = torch.randn(64, 64, requires_grad=True)
(a @ a).sum().backward()
assert torch.isfinite(a.grad).all()
found = f"torch {torch.__version__}, "
if torch.cuda.is_available():
    for gpu in range(torch.cuda.device_count()):
        b = torch.ones(256, 256, device=f"cuda:{gpu}")
        assert float((b @ b).sum()) == 256**3, f"a product on GPU {gpu} is wrong"
    print(found + f"CUDA {torch.version.cuda}: {torch.cuda.device_count()} × {torch.cuda.get_device_name(0)}")
else:
    print(found + "CPU")
"""


def check_torch() -> Finding:
    """A product and its gradient; a product on each GPU."""
    done = _python("-c", _TORCH)
    if done.returncode:
        return failure("torch", _last_line(done), SETUP)
    said = done.stdout.strip()
    if said.endswith("CPU") and has_nvidia_gpu():
        return failure(
            "torch",
            f"{said} only, although an NVIDIA GPU is here",
            "install torch with CUDA, and a driver that is new enough for it; see CUDA_VISIBLE_DEVICES",
        )
    return ok("torch", said)


def has_nvidia_gpu() -> bool:
    """Whether the kernel's driver knows of one."""
    gpus = Path("/proc/driver/nvidia/gpus")
    return gpus.is_dir() and any(gpus.iterdir())


def check_triton() -> Finding:
    """A real kernel: launched on the GPU; without one compiled for sm_90, and launched in the interpreter."""
    remedy = f"{SETUP}; nothing needs Triton before a fused kernel is verified on your GPU: runs go on without it"
    with tempfile.TemporaryDirectory() as cache:
        # what an earlier compilation left must not hide that none is possible now
        environment = {"TRITON_CACHE_DIR": cache}
        module = "ungan_dist.kernels.self_test"
        attempts = (
            [("run", {})] if has_nvidia_gpu() else [("compile", {}), ("run", {"TRITON_INTERPRET": "1"})]
        )  # fmt: skip
        said: list[str] = []
        for way, more in attempts:
            done = _python("-m", module, way, **environment, **more)
            if done.returncode:
                return warning("triton", f"{way}: {_last_line(done)}", remedy)
            said.append(done.stdout.strip())
    return ok("triton", said[0] + "".join("," + one.partition(",")[2] for one in said[1:]))


_FFCV = """\
import sys, tempfile
from importlib import metadata
from pathlib import Path
import numpy as np, torch
from ungan_dist.sources import load_source
from ungan_dist.config import AugmentConfig, SourceConfig
from ungan_dist.data import gather
from ungan_dist.resident import open_examples, prepare
source = load_source(SourceConfig(kind="digits"))
with tempfile.TemporaryDirectory() as folder:
    file, memory = (open_examples(prepare(source, Path(folder), loader=one), "cpu") for one in ("ffcv", "resident"))
    batch = torch.arange(0, 64, 2)
    read, expected = (gather(data, batch, augment=AugmentConfig(padding=1), seed=1) for data in (file, memory))
    assert torch.equal(read, expected), "what FFCV reads is not what was written"
print(f"FFCV {metadata.version('ffcv')}, a .beton of {len(source.images)} pictures written and read")
"""


def check_ffcv() -> Finding:
    """A small .beton, written and read back bit for bit."""
    done = _python("-c", _FFCV)
    if done.returncode:
        try:
            version = metadata.version("ffcv")
        except metadata.PackageNotFoundError:
            return warning(
                "ffcv",
                "not installed: data stay in memory, which suffices while they fit",
                "install libopencv-dev, libturbojpeg0-dev, pkg-config and g++ (Debian's names), then make setup",
            )
        return failure(
            "ffcv", f"{version} is installed, but: {_last_line(done)}", f"{SETUP}; or --data.loader resident"
        )
    return ok("ffcv", done.stdout.strip())


def check_software() -> Iterator[Finding]:
    """All of it, each in processes of its own, so side by side."""
    checks: list[Callable[[], Finding]] = [check_python, check_packages, check_torch, check_triton, check_ffcv]
    with ThreadPoolExecutor() as pool:
        yield from pool.map(lambda check: check(), checks)


def _python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, *arguments]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, env={**inherited, **environment}
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer within {PATIENCE_S} s")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return lines[-1] if lines else f"its process ended with {done.returncode}"
