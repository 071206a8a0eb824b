"""Checkpoints: the state of a training after each epoch, from which a restart continues to the same result.

A checkpoint is independent of the number of processes. Random draws derive from (seed, epoch, example) or from explicit
generators. The state is therefore complete with weights, optimizers, stream positions, generators and curves.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ungan_dist import store
from ungan_dist.data.seeds import seed_layers
from ungan_dist.training.world import World


def _ignore(done: int, total: int) -> None:
    del done, total


def name_files(name: str) -> tuple[str, str, str]:
    """Return the names of a checkpoint's marker and of its two states."""
    return f"{name}.json", f"{name}-0.pt", f"{name}-1.pt"


class Checkpoint:
    """Store one training's state; rank 0 writes it, and reads it for all processes.

    Two files alternate, and the marker names the complete one. A kill at any moment leaves the last state or the one
    before it.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        *,
        id: str,
        world: World,
        every_s: float = 0.0,
        on_epoch: Callable[[int, int], None] = _ignore,
    ) -> None:
        """Configure the checkpoint.

        Args:
            root: folder that names are relative to.
            name: name of the marker, without its suffix.
            id: id of the unit; states with another id are ignored.
            world: the processes that train.
            every_s: minimum seconds between two saved states; 0 saves every epoch.
            on_epoch: called after each epoch, with the number of epochs done and of all epochs of the stage.
        """
        self._root, self._name, self._id, self._world = root, name, id, world
        self.on_epoch = on_epoch
        self._turn = 0
        self._began = time.perf_counter()
        self._every_s, self._last_saved = every_s, time.monotonic()
        self.excluded_seconds = 0.0
        """Seconds to subtract from a time measured around the training: I/O, minus the work of earlier attempts."""

    @property
    def marker(self) -> str:
        """Path of the marker, relative to the root."""
        return name_files(self._name)[0]

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, or None if no intact state has this id."""
        self._began = time.perf_counter()
        content: bytes | None = None
        if self._world.rank == 0:
            turn = self._intact_turn()
            if turn is not None:
                content = (self._root / self._file(turn)).read_bytes()
                self._turn = 1 - turn
        content = self._world.broadcast(content)
        saved = None if content is None else torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        self.excluded_seconds += time.perf_counter() - self._began
        self._began = time.perf_counter()
        if saved is None:
            return None
        self.excluded_seconds -= saved["seconds"]
        self._began -= saved["seconds"]
        return saved["state"]

    def _intact_turn(self) -> int | None:
        """Return which of the two files the marker names, if that is intact."""
        facts = store.committed(self._root, self.marker, id=self._id)
        turn = None if facts is None else facts.get("turn")
        # early markers have no hash over their facts
        is_named = turn in (0, 1) and self._file(turn) in store.read_marker(self._root / self.marker)["files"]
        return turn if is_named else None

    def save(self, state: dict[str, Any]) -> None:
        """Save a state; it replaces the last but one."""
        if self._world.rank != 0 or time.monotonic() - self._last_saved < self._every_s:
            return
        start = time.perf_counter()
        content = io.BytesIO()
        torch.save({"state": state, "seconds": start - self._began}, content)
        files = {self._file(self._turn): content.getvalue()}
        store.commit(self._root, self.marker, id=self._id, files=files, facts={"turn": self._turn})
        self._turn, self._last_saved = 1 - self._turn, time.monotonic()
        spent = time.perf_counter() - start
        self.excluded_seconds += spent
        self._began += spent

    def remove(self) -> None:
        """Delete the saved states, once the result is committed."""
        if self._world.rank == 0:
            for name in name_files(self._name):
                (self._root / name).unlink(missing_ok=True)
            folder = (self._root / self._name).parent
            with contextlib.suppress(OSError):  # the folder also holds other states
                if folder != self._root:
                    folder.rmdir()

    def _file(self, turn: int) -> str:
        return name_files(self._name)[1 + turn]


class Epochs:
    """Iterate over the epochs of a training's stages that a checkpoint has not completed.

    ``state`` holds modules, optimizers and other objects with ``state_dict``, tensors, generators, lists and dicts. It
    is restored in place on construction and saved after every epoch. Random draws inside layers, such as dropout, are
    seeded by ``seed``, stage, epoch and rank.
    """

    def __init__(self, checkpoint: Checkpoint | None, world: World, seed: int, **state: Any) -> None:
        self._checkpoint, self._state = checkpoint, state
        self._layer_seed = (seed, f"rank {world.rank}") if world.rank else (seed,)
        self._done: dict[str, int] = {}
        saved = None if checkpoint is None else checkpoint.load()
        if saved is not None:
            self._done = saved["done"]
            for name, part in state.items():
                _restore(part, saved["parts"][name])

    def iterate(self, stage: str, num_epochs: int) -> Iterator[int]:
        """Yield the remaining epochs of one stage, counted from 0."""
        first = self._done.get(stage, 0)
        for epoch in range(first, num_epochs):
            # dropout draws from the global generator, which no checkpoint holds
            with seed_layers(stage, *self._layer_seed, epoch):
                yield epoch
            self._done[stage] = epoch + 1
            if self._checkpoint is not None:
                parts = {name: _snapshot(part) for name, part in self._state.items()}
                self._checkpoint.save({"done": self._done, "parts": parts})
                self._checkpoint.on_epoch(epoch + 1, num_epochs)


def _snapshot(part: Any) -> Any:
    if hasattr(part, "state_dict"):
        return part.state_dict()
    if isinstance(part, torch.Generator):
        return part.get_state()
    return part.detach() if isinstance(part, Tensor) else part


def _restore(part: Any, saved: Any) -> None:
    if hasattr(part, "load_state_dict"):
        part.load_state_dict(saved)
    elif isinstance(part, torch.Generator):
        part.set_state(saved)
    elif isinstance(part, Tensor):
        with torch.no_grad():
            part.copy_(saved)
    elif isinstance(part, list):
        part[:] = saved
    else:
        part.update(saved)
