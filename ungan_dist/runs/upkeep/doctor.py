"""Whether this machine can do the work: each check tries the thing itself and says what to do where it fails."""

from __future__ import annotations

import fcntl
import math
import os
import resource
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ungan_dist import store
from ungan_dist.data.memory import read_cgroup_limits
from ungan_dist.errors import ConfigError
from ungan_dist.runs.upkeep.doctor_probes import ABSENT

MINIMUM_PYTHON = (3, 11)
GIB = 1 << 30
PATIENCE_S = 300.0
"""For a library that is tried; the first use of one compiles."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found."""

    name: str
    state: Literal["ok", "warning", "failure"]
    detail: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""

    def __str__(self) -> str:
        """One line, whatever a library wrote into its message."""
        text = f"{self.state:<8} {self.name}: {self.detail}" + (f"; {self.remedy}" if self.remedy else "")
        return " ".join(text.splitlines())


def local_findings(
    output: Path, *, storage: str | None = None, tell: Callable[[str], None] = lambda _: None
) -> Iterator[Finding]:
    """Every check of this machine, each as soon as it is done.

    Args:
        output: the folder that holds runs and prepared data; need not exist.
        storage: the URL of the object storage that the folder works for, if there is one.
        tell: is told what is being checked, before a check begins.
    """
    if storage is not None:
        tell(f"storage {storage}")
        yield check_storage(storage)
    tell("this machine and the output folder")
    yield check_python()
    yield check_clock(output)
    yield check_output(output)
    yield check_disk(output)
    yield check_memory()
    tell("prepared data")
    yield check_data(output)
    probes = (check_torch, check_triton, check_ffcv)
    tell("torch, triton and ffcv, which takes up to some minutes")
    # at once: each mostly waits for the disk; on a busy machine they would only keep each other waiting
    with ThreadPoolExecutor(1 if _is_busy() else len(probes)) as pool:
        yield from pool.map(lambda check: check(), probes)


def _is_busy() -> bool:
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def check_python(minimum: tuple[int, int] = MINIMUM_PYTHON) -> Finding:
    """The interpreter's version."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= minimum:
        return Finding(name="python", state="ok", detail=found)
    needed = ".".join(map(str, minimum))
    remedy = f"install Python {needed} or newer, then make setup PYTHON=python{needed}"
    return Finding(name="python", state="failure", detail=f"{found}, needed is {needed}", remedy=remedy)


def check_torch() -> Finding:
    """Torch imports and computes, on the GPU as well where there is one."""
    return _probed("torch", absent="failure", remedy="make setup installs the locked torch; for a GPU see nvidia-smi")


def check_triton() -> Finding:
    """Triton compiles and runs a kernel, or interprets one where no GPU is."""
    absent = "failure" if sys.platform == "linux" else "warning"
    return _probed("triton", absent=absent, remedy="make setup installs the locked triton; a GPU needs a C compiler")


def check_ffcv() -> Finding:
    """FFCV writes and reads a file; a run does without FFCV, not with one that is broken."""
    return _probed("ffcv", absent="warning", remedy="see .venv/ffcv.log after make setup; or pip uninstall ffcv")


def _probed(name: str, *, absent: Literal["warning", "failure"], remedy: str) -> Finding:
    """What became of a probe in a process of its own."""
    # the package may be a copy that only this process's path knows; last, so that it shadows nothing
    path = [*filter(None, [os.environ.get("PYTHONPATH")]), str(Path(__file__).parents[3])]
    command = [sys.executable, "-P", "-m", "ungan_dist.runs.upkeep.doctor_probes", name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        # slow is not broken: what works on an idle machine must not be taken off
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        return Finding(
            name=name,
            state="warning",
            detail=f"no answer in {PATIENCE_S:g} s, load average {load:.1f} on {cores} cores",
            remedy="try again when the machine is idle",
        )
    if done.returncode == 0:
        return Finding(name=name, state="ok", detail=_last_line(done.stdout))
    if done.returncode == ABSENT:
        return Finding(name=name, state=absent, detail="not installed", remedy="make setup installs it")
    how = f"ended by signal {-done.returncode}" if done.returncode < 0 else _last_line(done.stderr)
    return Finding(name=name, state="failure", detail=how, remedy=remedy)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def check_output(folder: Path) -> Finding:
    """The output folder, or the nearest folder above it that exists: write, fsync, lock, rename, read, delete."""
    name = "output folder"
    try:
        # a link that leads nowhere is in the way of the folder
        there = _nearest(folder, os.lstat)
    except OSError as error:
        remedy = "name another folder with --output"
        return Finding(name=name, state="failure", detail=f"{folder}: {error.strerror or error}", remedy=remedy)
    aside = there / f".doctor.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    final = aside.with_suffix(".txt")
    content = secrets.token_bytes(64)
    try:
        try:
            with aside.open("xb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            aside.rename(final)
            if final.read_bytes() != content:
                raise OSError(f"{final} does not hold what was written")
            final.unlink()
        finally:
            aside.unlink(missing_ok=True)
            final.unlink(missing_ok=True)
    except OSError as error:
        system = there.is_relative_to("/proc") or there.is_relative_to("/sys") or there.is_relative_to("/dev")
        remedy = "name a folder that you may write to with --output"
        remedy += ", not one of the system's own" if system else ", or mount it anew"
        return Finding(name=name, state="failure", detail=f"{there}: {error.strerror or error}", remedy=remedy)
    made = "" if there == folder else f" ({folder} will be made)"
    return Finding(name=name, state="ok", detail=f"{there} can be written, locked and renamed in{made}")


def check_storage(url: str) -> Finding:
    """Object storage: connect, write, read and delete, as a run does."""
    name = "storage"
    # pyarrow is wanted for storage alone
    import pyarrow

    from ungan_dist.runs.storage.mirror import connect

    try:
        connect(url).try_out()
    except ConfigError as error:
        detail, _, remedy = str(error).partition(". Check ")
        return Finding(name=name, state="failure", detail=detail, remedy=f"check {remedy or 'the URL'}")
    except (OSError, pyarrow.ArrowException) as error:
        remedy = "check that the credentials in the environment may write, read and delete there"
        return Finding(name=name, state="failure", detail=f"{url}: {error}", remedy=remedy)
    return Finding(name=name, state="ok", detail=f"{url} can be written, read and deleted in")


def _nearest(folder: Path, look: Callable[[Path], object]) -> Path:
    """The folder, or the nearest path above it that a look finds.

    Raises:
        OSError: it cannot be looked for, for example because its name is too long.
    """
    for path in (folder, *folder.parents):
        try:
            look(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        return path
    raise FileNotFoundError(f"nothing of {folder} is there")


def _existing(folder: Path) -> Path:
    """The nearest path that is there; below one that cannot be looked for, which another check says, the one above."""
    for path in (folder, *folder.parents):
        try:
            return _nearest(path, os.stat)
        except OSError:
            continue
    return Path("/")


def check_disk(folder: Path, *, needed: int = GIB, wanted: int = 10 * GIB) -> Finding:
    """Free bytes where the output folder lies.

    Args:
        folder: the output folder; need not exist.
        needed: bytes below which it is a failure: a run of the recipe digits would end without space.
        wanted: bytes below which it is a warning: what hundreds of shadow models and a data set take.
    """
    there = _existing(folder)
    usage = shutil.disk_usage(there)
    if not usage.total:
        detail = f"nothing can be stored at {there}: it is no file system of a disk"
        remedy = "name a folder on a disk with --output"
        return Finding(name="disk", state="failure", detail=detail, remedy=remedy)
    free = usage.free
    remedy = "ungan-dist runs --remove RUN frees space; or name another folder with --output"
    return _amount("disk", free, f"free at {there}", needed=needed, wanted=wanted, remedy=remedy)


def check_memory(*, needed: int = GIB, wanted: int = 4 * GIB) -> Finding:
    """Bytes of memory that this process may still take: the machine's, its control group's, its address space's.

    Args:
        needed: bytes below which it is a failure: torch with a worker does not fit.
        wanted: bytes below which it is a warning: a worker with CIFAR-10 in memory.
    """
    free, by = min(_memory_limits())
    remedy = "end other processes, raise the limit, or run fewer workers (--fleet.num-workers)"
    return _amount("memory", free, f"available ({by})", needed=needed, wanted=wanted, remedy=remedy)


def _memory_limits() -> Iterator[tuple[int, str]]:
    """What is left under each limit, and whose it is."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kibibytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    yield kibibytes["MemAvailable"] * 1024, "of the machine"
    for limit, used in read_cgroup_limits():
        yield limit - used, "of the control group"
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        yield soft - pages * resource.getpagesize(), "of ulimit -v"


def _amount(name: str, free: int, what: str, *, needed: int, wanted: int, remedy: str) -> Finding:
    detail = f"{free / GIB:.1f} GiB {what}"
    if free >= wanted:
        return Finding(name=name, state="ok", detail=detail)
    least, state = (needed, "failure") if free < needed else (wanted, "warning")
    return Finding(name=name, state=state, detail=f"{detail}, below {least / GIB:g} GiB", remedy=remedy)


def check_data(output: Path) -> Finding:
    """The hashes of all prepared data of an output folder."""
    name = "prepared data"
    try:
        # as arrays, and as FFCV's file
        markers = sorted([*output.glob("data/*/manifest.json"), *output.glob("data/*/beton.json")])
    except OSError:
        markers = []  # what cannot be looked into is another check's word
    altered = [marker for marker in markers if not _intact(output, marker)]
    if altered:
        names = ", ".join(map(str, altered))
        remedy = "remove its folder: the next run prepares it anew"
        return Finding(
            name=name, state="failure", detail=f"not what was committed: the files of {names}", remedy=remedy
        )
    folders = {marker.parent for marker in markers}
    size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    detail = f"{len(folders)} data sets intact, {size / GIB:.2f} GiB" if markers else "none yet"
    return Finding(name=name, state="ok", detail=detail)


def _intact(output: Path, marker: Path) -> bool:
    """Whether prepared data are what their manifest says, under the name that its hash gives."""
    try:
        id = str(store.read_json(marker)["id"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    place = str(marker.relative_to(output))
    return id[:16] == marker.parent.name and store.condition(output, place, id=id) == "intact"


def check_clock(output: Path, *, witness: Path = Path(__file__), tolerance_s: float = 5) -> Finding:
    """The clock has not fallen behind, and agrees with that of the output folder's file system.

    Args:
        output: the output folder; need not exist, and what cannot be written is another check's word.
        witness: a file that was written before now.
        tolerance_s: seconds between this clock and the file system's.
    """
    name, remedy = "clock", "set the clock (timedatectl set-ntp true)"
    now = time.time()
    # a day: archives keep local times
    behind = witness.stat().st_mtime - 86400 - now
    if behind > 0:
        detail = f"{time.ctime(now)} is before {witness} was written"
        return Finding(name=name, state="failure", detail=detail, remedy=remedy)
    difference = _file_clock(_existing(output))
    if difference > tolerance_s:
        detail = f"{difference:.0f} s from that of the file system at {output}"
        return Finding(name=name, state="warning", detail=detail, remedy=f"{remedy} here and on the file server")
    agrees = "" if math.isnan(difference) else ", as the output folder's"
    return Finding(name=name, state="ok", detail=time.strftime("%Y-%m-%d %H:%M:%S %z") + agrees)


def _file_clock(folder: Path) -> float:
    """Seconds between this clock and that of a folder's file system; NaN where nothing can be written."""
    path = folder / f".doctor.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    try:
        before = time.time()
        path.write_bytes(b"clock")
        after = time.time()
        stamp = path.stat().st_mtime
    except OSError:
        return math.nan
    finally:
        if path.parent.is_dir():
            path.unlink(missing_ok=True)
    return max(before - stamp, stamp - after, 0.0)
