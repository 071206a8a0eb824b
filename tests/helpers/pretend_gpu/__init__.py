"""A CUDA GPU without one, for whole programs: torch finds a device whose tensors live on the CPU.

``environment(folder)`` returns variables for a process; it and all processes that it starts take every path that a GPU
takes. Devices are not mixed, CUDA graphs are recorded and replayed, and a host wait within a capture raises. Triton's
kernels run in its interpreter with dots as tensor cores compute them. No time in it means anything.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def environment(folder: Path) -> dict[str, str]:
    """Compile the pretend CUDA runtime into a folder, and return the variables that switch it on.

    Args:
        folder: Existing folder for the library.

    Raises:
        RuntimeError: Something that the pretend GPU needs is missing.
    """
    triton = importlib.util.find_spec("triton")
    if triton is None or triton.origin is None:
        raise RuntimeError("the pretend GPU needs Triton, which has the headers of CUDA: install it")
    headers = Path(triton.origin).parent / "backends/nvidia/include"
    library = folder / "libcuda.so.1"
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", f"-Wl,-soname,{library.name}", f"-I{headers}"]
    try:
        subprocess.run(
            [*command, str(HERE / "cuda_runtime.c"), "-o", str(library)], check=True, capture_output=True, text=True
        )
    except FileNotFoundError as error:
        raise RuntimeError(f"the pretend GPU needs a C compiler, and {compiler} is not installed") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"the pretend CUDA runtime does not compile: {error.stderr.strip()[-300:]}") from error
    paths = [str(HERE / "on_path"), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return {
        "LD_PRELOAD": str(library),
        "PATH": os.pathsep.join([str(HERE / "commands"), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TRITON_INTERPRET": "1",
    }
