"""Damage one file of a finished run, or what it shares with another run, as disks, editors and wrong copies do."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path

NOT_DAMAGED = (".lock",)
"""Files without content."""


def files_of(output: Path, run: str = "run") -> list[str]:
    """List the files of one run and of what all runs share, relative to the output folder."""
    places = [output / run, output / "data", output / "shadows"]
    found = [path for place in places for path in place.rglob("*") if path.is_file() and path.name not in NOT_DAMAGED]
    return sorted(path.relative_to(output).as_posix() for path in found)


def _flip(draw: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _insert(draw: random.Random, path: Path) -> None:
    content, place = path.read_bytes(), draw.randrange(path.stat().st_size)
    path.write_bytes(content[:place] + draw.randbytes(draw.randrange(1, 9)) + content[place:])


def _zero(draw: random.Random, path: Path) -> None:
    content = bytearray(path.read_bytes())
    first = draw.randrange(len(content))
    last = min(len(content), first + draw.randrange(1, 4096))
    content[first:last] = bytes(last - first)
    path.write_bytes(content)


def _truncate(draw: random.Random, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.choice([len(content) - 1, draw.randrange(len(content))])])


def _empty(draw: random.Random, path: Path) -> None:
    path.write_bytes(b"")


def _delete(draw: random.Random, path: Path) -> None:
    path.unlink()


def _folder(draw: random.Random, path: Path) -> None:
    path.unlink()
    path.mkdir()


def _digit(draw: random.Random, path: Path) -> None:
    text = path.read_text()
    place = draw.choice([match.start() for match in re.finditer(r"\d", text)])
    digit = draw.choice([other for other in "123456789" if other != text[place]])
    path.write_text(text[:place] + digit + text[place + 1 :])


def _key(draw: random.Random, path: Path) -> None:
    text = path.read_text()
    match = draw.choice(list(re.finditer(r'"([^"\n]+)":', text)))
    place = draw.randrange(match.start(1), match.end(1))
    path.write_text(text[:place] + ("x" if text[place] != "x" else "y") + text[place + 1 :])


def _value(draw: random.Random, path: Path) -> None:
    """Another value under a key, in the form of an intact file."""
    record = json.loads(path.read_text())
    owner = record
    while True:
        name = draw.choice(sorted(owner))
        if not isinstance(owner[name], dict) or not owner[name] or draw.random() < 0.3:
            break
        owner = owner[name]
    owner[name] = draw.choice([value for value in (None, 5, "x", [], {}, [None], True) if value != owner[name]])
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def _remove_key(draw: random.Random, path: Path) -> None:
    record = json.loads(path.read_text())
    # without its hash a record is one of an early version, which stays readable
    del record[draw.choice(sorted(set(record) - {"sha256"}))]
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


def _link(target: str) -> Callable[[random.Random, Path], None]:
    def replace(draw: random.Random, path: Path) -> None:
        path.unlink()
        path.symlink_to({"nowhere": "nowhere", "itself": path.name, "a folder": "."}[target])

    return replace


def _link_to_neighbour(draw: random.Random, path: Path) -> None:
    others = [other for other in sorted(path.parent.iterdir()) if other != path and other.is_file()]
    others = [other for other in others if other.read_bytes() != path.read_bytes()]
    if others:
        path.unlink()
        path.symlink_to(draw.choice(others).name)


def _swap(draw: random.Random, path: Path, others: list[Path]) -> None:
    others = [other for other in others if other.is_file() and other.read_bytes() != path.read_bytes()]
    if others:
        other = draw.choice(others)
        aside = path.with_name(".aside")
        shutil.move(path, aside)
        shutil.move(other, path)
        shutil.move(aside, other)


def _swap_beside(draw: random.Random, path: Path) -> None:
    """Swap two files of one kind: methods of a seed, shadow models, arrays of the data."""
    _swap(draw, path, [other for other in sorted(path.parent.glob(f"*{path.suffix}")) if other != path])


def _swap_seeds(draw: random.Random, path: Path) -> None:
    _swap(draw, path, [path.parent.parent / seed / path.name for seed in "01" if seed != path.parent.name])


def _swap_runs(draw: random.Random, path: Path) -> None:
    _swap(draw, path, [Path(*("second" if part == "run" else part for part in path.parts))])


def _rot(draw: random.Random, path: Path) -> None:
    """A flipped bit that leaves size and time as they were."""
    before = path.stat()
    _flip(draw, path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


KINDS: dict[str, Callable[[random.Random, Path], None]] = {
    "bit flipped": _flip,
    "bit flipped, time kept": _rot,
    "bytes inserted": _insert,
    "block zeroed": _zero,
    "truncated": _truncate,
    "emptied": _empty,
    "deleted": _delete,
    "folder in its place": _folder,
    "digit changed": _digit,
    "key renamed": _key,
    "key removed": _remove_key,
    "value replaced": _value,
    "link to nowhere": _link("nowhere"),
    "link to itself": _link("itself"),
    "link to a folder": _link("a folder"),
    "link to another file": _link_to_neighbour,
    "swapped beside": _swap_beside,
    "swapped between seeds": _swap_seeds,
    "swapped between runs": _swap_runs,
}
OF_RECORDS = ("digit changed", "key renamed", "key removed", "value replaced")
"""Kinds that need a record in JSON."""


def damage(draw: random.Random, output: Path) -> tuple[str, str]:
    """Damage one file of the run; return the kind and the file's name."""
    names = files_of(output)
    while True:
        kind = draw.choice(sorted(KINDS))
        some = [name for name in names if name.endswith(".json") or kind not in OF_RECORDS]
        if kind == "swapped between seeds":
            some = [name for name in some if re.search(r"/\d/", name)]
        name = draw.choice(some)
        path = output / name
        before = path.read_bytes()
        KINDS[kind](draw, path)
        try:
            is_changed = path.is_symlink() or path.read_bytes() != before
        except OSError:
            is_changed = True
        if is_changed:
            return kind, name
