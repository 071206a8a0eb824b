"""Count what happens to each result of a folder, as the kernel reports it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer


class Commits(FileSystemEventHandler):
    """How often each result was committed, by a rename, and which ones were removed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Name of a result → its commits."""
        self.removed: list[str] = []

    @property
    def num_repeated(self) -> int:
        """Commits beyond the first of each result."""
        return self.counts.total() - len(self.counts)

    def on_moved(self, event: FileSystemEvent) -> None:
        """Count a commit; a result that is moved away was removed."""
        self._note_removal(event.src_path)
        if (name := _name_result(event.dest_path)) is not None:
            self.counts[name] += 1

    def on_deleted(self, event: FileSystemEvent) -> None:
        """Note a result that was removed."""
        self._note_removal(event.src_path)

    def check(self, present: set[str]) -> list[str]:
        """Describe each removal, each result that is gone, and each whose commit was not seen."""
        found = [f"{name} was removed" for name in self.removed]
        found += [f"{name} was committed and is gone" for name in sorted(self.counts.keys() - present)]
        return found + [f"the commit of {name} was not seen" for name in sorted(present - self.counts.keys())]

    def _note_removal(self, path: bytes | str) -> None:
        if (name := _name_result(path)) is not None:
            self.removed.append(name)


@contextlib.contextmanager
def watching(folder: Path) -> Iterator[Commits]:
    """Watch a folder, which is made, within the context."""
    folder.mkdir(parents=True, exist_ok=True)
    commits, observer = Commits(), Observer()
    observer.schedule(commits, str(folder))
    observer.start()
    try:
        yield commits
    finally:
        observer.stop()
        observer.join()


def _name_result(path: bytes | str) -> str | None:
    name = os.path.basename(os.fsdecode(path))
    return name if name.endswith(".json") and not name.startswith(".") else None
