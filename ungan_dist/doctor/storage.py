"""The output folder: can a result be committed there, does its clock agree, are prepared data what they were?"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ungan_dist import store
from ungan_dist.doctor.finding import Finding, failure, ok, warning

SKEW_S = 5.0
"""Clocks may differ by so much: status files and logs of several machines are read side by side."""
_CONTENT = b"a result" * 2**17


@contextlib.contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """A folder in the output folder; what had to be made for it is removed again.

    Raises:
        OSError: it cannot be made.
    """
    made = [folder for folder in (output, *output.parents) if not folder.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".doctor-", dir=output))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def check_storage(output: Path) -> Finding:
    """Commits a result of a megabyte as a run does: written aside, synchronised, renamed, locked, hashed."""
    try:
        with scratch(output) as place, store.run_lock(place / "run"):
            start = time.perf_counter()
            store.commit(place / "run", "marker.json", id="doctor", files={"result": _CONTENT})
            seconds = time.perf_counter() - start
            if store.committed(place / "run", "marker.json", id="doctor") is None:
                raise OSError("what was written is not what is read")
            if not store.is_locked(place / "run"):
                raise OSError("locks do not hold there: two drivers would not see each other")
    except OSError as error:
        return failure(
            "storage",
            f"{output} cannot hold a run: {error.strerror or error}",
            "choose another --output, or free space, mount it writable, and with locks (NFS: not nolock)",
        )
    return ok("storage", f"{output}: 1 MiB committed and read back in {1000 * seconds:.0f} ms")


def check_clock(output: Path) -> Finding:
    """This process's clock against the one that stamps files."""
    try:
        with scratch(output) as place:
            before = time.time()
            (place / "now").write_bytes(b"")
            after = time.time()
            stamped = (place / "now").stat().st_mtime
    except OSError as error:
        return warning("clock", f"{output} could not be asked: {error.strerror or error}", "see storage")
    return clock_finding("clock", max(before - stamped, stamped - after, 0.0), f"the storage of {output}")


def clock_finding(name: str, skew: float, other: str) -> Finding:
    """What is to be said of clocks that differ by so many seconds."""
    if skew > SKEW_S:
        return failure(
            name, f"differs from that of {other} by {skew:.0f} s", "switch on time synchronisation (chrony, NTP)"
        )
    return ok(name, f"agrees with that of {other}")


def check_data(output: Path) -> Iterator[Finding]:
    """Every prepared data set, hashed anew."""
    markers = sorted(output.glob("data/*/*.json"))
    for marker in markers:
        name = f"data/{marker.parent.name[:8]}"
        try:
            record = store.read_json(marker)
            title = record["facts"].get("title", "data")
            state = store.condition(output, str(marker.relative_to(output)), id=record["id"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            state, title = "corrupt", f"{marker} is damaged ({type(error).__name__})"
        if state == "intact":
            yield ok(name, f"{title}: intact")
        else:
            yield failure(
                name, f"{title}: altered since it was prepared", f"remove {marker.parent}; the next run prepares it"
            )
    if not markers:
        yield ok("data", "none prepared yet" if os.path.isdir(output) else f"none: {output} does not exist yet")
