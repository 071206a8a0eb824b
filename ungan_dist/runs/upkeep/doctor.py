"""Check this machine: one table of checks, each with a function and a remedy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ungan_dist import store
from ungan_dist.data.memory import read_cgroup_limits
from ungan_dist.errors import ConfigError
from ungan_dist.files import format_bytes
from ungan_dist.runs.kernel_choice import verdict_folder
from ungan_dist.runs.upkeep.library_probes import NOT_INSTALLED
from ungan_dist.runs.upkeep.rights import find_open_entries

MINIMUM_PYTHON = (3, 11)
GIB = 1 << 30
PROBE_TIMEOUT_S = 300.0
"""For one library; its first use may compile."""

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of a check."""

    name: str
    state: State
    detail: str
    remedy: str = ""
    """Empty if nothing needs to be done."""

    def __str__(self) -> str:
        text = f"{self.state:<8} {self.name}: {self.detail}" + (f"; {self.remedy}" if self.remedy else "")
        return " ".join(text.splitlines())


class Problem(Exception):
    """A check found a problem."""

    def __init__(self, detail: str, state: State = "failure") -> None:
        super().__init__(detail)
        self.state: State = state


@dataclass(frozen=True, kw_only=True)
class Check:
    """One row of the table."""

    name: str
    run: Callable[[Path], str]
    """Takes the output folder, returns a description of what works, or raises ``Problem``."""
    remedy: str


def run_checks(
    output: Path, *, storage: str | None = None, on_check: Callable[[str], None] = lambda _: None
) -> Iterator[Finding]:
    """Run every check of this machine, and yield each finding at once.

    Args:
        output: Folder for runs and prepared data; need not exist.
        storage: URL of the object storage, if the output is one.
        on_check: Called with a check's name before it begins.
    """
    checks = CHECKS if storage is None else (_storage_check(storage), *CHECKS)
    for check in checks:
        on_check(check.name)
        try:
            yield Finding(name=check.name, state="ok", detail=check.run(output))
        except Problem as problem:
            yield Finding(name=check.name, state=problem.state, detail=str(problem), remedy=check.remedy)


def check_python(_: Path, minimum: tuple[int, int] = MINIMUM_PYTHON) -> str:
    """Compare the interpreter's version with the minimum."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < minimum:
        raise Problem(f"{found}, but {minimum[0]}.{minimum[1]} is needed")
    return found


def check_output(folder: Path) -> str:
    """Write, rename, lock, read and delete a file in the output folder or its nearest existing parent."""
    parent = _nearest_existing(folder)
    path = parent / f".doctor.{secrets.token_hex(8)}"
    content = secrets.token_bytes(64)
    try:
        store.write_file(path, content)
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.read() != content:
                raise OSError("a file does not return what was written")
    except OSError as error:
        raise Problem(f"{parent}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return f"{parent} is writable" + ("" if parent == folder else f" ({folder} will be created)")


def check_rights(folder: Path) -> str:
    """Look for runs and data in the output folder that other users of this machine can read."""
    try:
        found = find_open_entries(folder)
    except OSError as error:
        raise Problem(f"{folder}: {error.strerror or error}", "warning") from error
    if found:
        others = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise Problem(f"other users can read files of {found[0]}{others}", "warning")
    return "no file of a run is open to other users"


def check_disk(folder: Path, *, needed: int = GIB, wanted: int = 10 * GIB) -> str:
    """Compare the free disk space with the needs of a small run and of a large one."""
    parent = _nearest_existing(folder)
    try:
        free = shutil.disk_usage(parent).free
    except OSError as error:
        raise Problem(f"{parent}: {error.strerror or error}") from error
    return _check_amount(free, f"free at {parent}", needed=needed, wanted=wanted)


def check_memory(_: Path, *, needed: int = GIB, wanted: int = 4 * GIB) -> str:
    """Compare the available memory with the needs of one worker and of a worker with CIFAR-10."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    available = min([available, *(limit - used for limit, used in read_cgroup_limits())])
    return _check_amount(available, "available", needed=needed, wanted=wanted)


def check_library(name: str, *, absent: State = "failure") -> str:
    """Run a library's probe in a process of its own."""
    # the package may be a copy that only this process can import; last, so that it shadows nothing
    path = [*filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[3])]
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ungan_dist.runs.upkeep.library_probes", name],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise Problem(f"no result in {PROBE_TIMEOUT_S:g} s; try again when the machine is idle", "warning") from error
    if done.returncode == NOT_INSTALLED:
        raise Problem("not installed", absent)
    if done.returncode < 0:
        raise Problem(f"ended by signal {-done.returncode}")
    lines = [line.strip() for line in (done.stderr if done.returncode else done.stdout).splitlines() if line.strip()]
    last_line = lines[-1] if lines else "no output"
    if done.returncode:
        raise Problem(last_line)
    return last_line


def check_kernels(_: Path) -> str:
    """List the verdicts on kernels that runs on this machine's GPUs have left."""
    lines: list[str] = []
    try:
        files = sorted(verdict_folder().glob("*.json"))
    except FileNotFoundError as error:
        return f"none kept, as {error}"
    for path in files:
        with contextlib.suppress(OSError, store.CorruptResult, KeyError, TypeError):  # it is judged again
            content = store.read_record(path)
            key, verdict = content["key"], content["value"]
            lines.append(f"{key['operation']} on {key['device']['kind']}: {verdict['choice']} ({verdict['reason']})")
    return "; ".join(lines) or "none judged yet; a new run on a GPU judges them"


def check_storage(url: str) -> str:
    """Connect to object storage; write, read and delete an object."""
    # pyarrow is needed for storage only
    import pyarrow

    from ungan_dist.runs.storage.mirror import connect

    try:
        connect(url).try_out()
    except (ConfigError, OSError, pyarrow.ArrowException) as error:
        raise Problem(f"{url}: {error}") from error
    return f"{url}: objects can be written, read and deleted"


def _storage_check(url: str) -> Check:
    remedy = "check the URL, and that the credentials in the environment may write, read and delete there"
    return Check(name="storage", run=lambda _: check_storage(url), remedy=remedy)


CHECKS = (
    Check(name="python", run=check_python, remedy="install Python 3.11 or newer, then make setup PYTHON=python3.11"),
    Check(name="output folder", run=check_output, remedy="choose a folder that you may write to with --output"),
    Check(
        name="rights",
        run=check_rights,
        remedy="close it with chmod -R go= FOLDER; SECURITY.md has the commands that share it with a group",
    ),
    Check(
        name="disk",
        run=check_disk,
        remedy="free space (ungan-dist runs --remove RUN), or choose another disk with --output",
    ),
    Check(name="memory", run=check_memory, remedy="end other processes, or run fewer workers (--fleet.num-workers)"),
    Check(
        name="torch",
        run=lambda _: check_library("torch"),
        remedy="install the locked torch with make setup; for a GPU see nvidia-smi",
    ),
    Check(
        name="triton",
        run=lambda _: check_library("triton", absent="failure" if sys.platform == "linux" else "warning"),
        remedy="install the locked triton with make setup; a GPU needs a C compiler",
    ),
    Check(name="kernels", run=check_kernels, remedy=""),
    Check(
        name="ffcv",
        run=lambda _: check_library("ffcv", absent="warning"),
        remedy="only large data needs FFCV: see .venv/ffcv.log after make setup, or pip uninstall ffcv",
    ),
)


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def _check_amount(amount: int, description: str, *, needed: int, wanted: int) -> str:
    detail = f"{format_bytes(amount)} {description}"
    if amount < needed:
        raise Problem(f"{detail}, below {format_bytes(needed)}")
    if amount < wanted:
        raise Problem(f"{detail}, below {format_bytes(wanted)}", "warning")
    return detail
