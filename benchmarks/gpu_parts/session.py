"""What a part has: its device, its time, and the file that its rows are appended to."""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Session:
    """One part of the script."""

    rows: Path
    """JSON lines, one row each."""
    part: str
    is_rehearsal: bool
    """Whether everything is tiny and on a pretend GPU."""
    scratch: Path
    """Folder that all parts share, removed at the end."""
    deadline: float = float("inf")
    """Value of ``time.monotonic()`` at which the part should be done."""

    device: str = "cuda"

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def pick(self, real: T, tiny: T) -> T:
        """Return the value for a GPU, or the one for the rehearsal."""
        return tiny if self.is_rehearsal else real

    def append(self, subject: str, **values: Any) -> None:
        """Append a row, and let the disk have it."""
        row = {"part": self.part, "subject": subject, **({"rehearsal": True} if self.is_rehearsal else {}), **values}
        with self.rows.open("a+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            broken = "" if file.read() in ("", "\n") else "\n"  # a killed process has left a part of a row
            file.write(broken + json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def attempt(self, subject: str) -> Iterator[None]:
        """Turn an exception within the block into a row, so that the rest of the part goes on."""
        try:
            yield
        except Exception as error:  # a library or a compiler may raise anything
            traceback.print_exc()
            words = " ".join(str(error).split())[:200]
            hint = "; packages may lie in a folder of PYTHONPATH" if isinstance(error, ModuleNotFoundError) else ""
            self.append(subject, failed=f"{type(error).__name__}: {words}{hint}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows that are complete; a killed process may leave a part of its last one."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows
