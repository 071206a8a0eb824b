"""Missing packages, versions, and the largest rates of the device."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path

from gpu_parts.session import Session

ROOT = Path(__file__).parents[2]
MODULES = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
"""Packages whose module has another name."""


def describe(session: Session) -> None:
    """Append the packages that are missing, the versions, the GPU's clocks, and the ceilings of its rates."""
    session.append("packages", missing=", ".join(_list_missing()) or "none")
    with session.attempt("versions"):
        from ungan_dist.runs.versions import versions

        session.append("versions", versions=versions(), sources=_hash_sources(), cores=os.cpu_count())
    with session.attempt("clocks"):
        session.append("clocks", **_read_clocks())
    with session.attempt("TF32 products of torch"):
        from floors import bytes_per_s, flops_per_s

        session.append("TF32 products of torch", flops_per_s=flops_per_s(session.device, session.pick(8192, 64)))
        session.append("copies in memory", bytes_per_s=bytes_per_s(session.device, session.pick(2**30, 2**16)))


def _list_missing() -> list[str]:
    """Return the packages of ``pyproject.toml`` that cannot be imported."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[\[<>=; ]", requirement)[0] for requirement in declared]
    return [name for name in names if importlib.util.find_spec(MODULES.get(name, name)) is None]


def _hash_sources() -> str:
    """Identify the code that is measured, because the host need not have git."""
    import ungan_dist
    from ungan_dist.files import hash_file, hash_json

    package = Path(ungan_dist.__file__).parent
    folders = [package, package / "kernels", package / "cluster"]  # the last two may be links
    files = {path for folder in folders for path in folder.rglob("*.py")}
    return hash_json({str(path.relative_to(package)): hash_file(path) for path in sorted(files)})[:16]


def _read_clocks() -> dict[str, str]:
    names = "name,driver_version,clocks.max.sm,clocks.sm,power.limit,memory.total,mig.mode.current"
    query = ["nvidia-smi", f"--query-gpu={names}", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=10).stdout
    except FileNotFoundError:
        return {"left_out": "nvidia-smi is not installed"}
    return dict(zip(names.split(","), found.strip().splitlines()[0].split(", "), strict=True))
