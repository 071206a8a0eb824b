"""Keep the state of a unit's training in object storage, so that another machine continues a killed worker's work."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import PurePosixPath

from ungan_dist.errors import Unfinished
from ungan_dist.runs.storage.mirror import Mirror
from ungan_dist.runs.units import Unit
from ungan_dist.store import CorruptResult
from ungan_dist.training.checkpoint import name_files

POLL_SECONDS = 5.0
"""Interval in which new states are looked for; a training saves one every 30 s."""
UPLOAD_SHARE = 0.05
"""Largest share of the time that the uploads of a unit's states take."""


@contextlib.contextmanager
def keeping_state(mirror: Mirror, place: str, unit: Unit) -> Iterator[KeptState]:
    """Fetch a unit's state, and push each new one while the context lasts.

    The states are removed at the end of the context if their ``is_over`` was set: the result is in the storage, or the
    unit fails every time. A failure of the storage costs only the state, and the training goes on.

    Args:
        mirror: The storage.
        place: Folder of the unit's files.
        unit: The unit, in this machine's folder.
    """
    kept = KeptState(mirror, place, unit)
    kept.fetch()
    ended = threading.Event()

    def watch() -> None:
        pause = POLL_SECONDS
        while not ended.wait(pause):
            begun = time.monotonic()
            kept.push()
            pause = max(POLL_SECONDS, (time.monotonic() - begun) / UPLOAD_SHARE)

    # not in the training's thread, whose time is measured
    watcher = threading.Thread(target=watch, name="training state", daemon=True)
    watcher.start()
    try:
        yield kept
    finally:
        ended.set()
        watcher.join()
        if kept.is_over:
            kept.remove()


class KeptState:
    """The states of a unit's checkpoints, here and in the storage."""

    def __init__(self, mirror: Mirror, place: str, unit: Unit) -> None:
        self._mirror, self._place, self._unit = mirror, place, unit
        self._folder = mirror.folder / place
        self._there: dict[str, int] = {}
        """Checkpoints with a state in the storage → time of the marker here."""
        self.is_over = False
        """Whether no machine will continue the training."""

    def fetch(self) -> None:
        with contextlib.suppress(Unfinished, OSError):
            folders = {str(PurePosixPath(name).parent) for name in self._unit.checkpoints}
            stored = {f"{folder}/{file}" for folder in folders for file in self._mirror.sizes(self._name(folder))}
            for name in self._unit.checkpoints:
                marker = name_files(name)[0]
                if marker not in stored:
                    continue
                self._there[name] = self._read_time(name)
                if not self._there[name]:  # this machine's own state stays, even if another machine came further
                    self._mirror.pull(self._place, marker, id=self._unit.id)

    def push(self) -> None:
        for name in self._unit.checkpoints:
            with contextlib.suppress(Unfinished, CorruptResult, OSError):  # the training is writing the next state
                written = self._read_time(name)
                if written and self._there.setdefault(name, 0) != written:
                    self._mirror.push(self._place, name_files(name)[0])
                    self._there[name] = written

    def remove(self) -> None:
        for name in self._there:
            with contextlib.suppress(Unfinished):
                for file in name_files(name):
                    self._mirror.discard(self._place, file)

    def _read_time(self, name: str) -> int:
        """Return when the marker here was written, or 0."""
        try:
            return (self._folder / name_files(name)[0]).stat().st_mtime_ns
        except OSError:
            return 0

    def _name(self, folder: str) -> str:
        return "/".join(filter(None, (self._place, folder)))
