"""Find the parts of a data set in a folder: its sets, the files of each, and side files that hold no examples."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

SetName = Literal["train", "validation", "test"]

SPELLINGS: dict[str, SetName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Spellings of each set, as the library ``datasets`` reads them, in any case."""

_SIDE_FILES = re.compile(
    r"(eh)?thumbs\.db(:encryptable)?|.*:zone\.identifier|desktop\.ini|icon\r|picasa\.ini|metadata\.parquet|(readme|licen[cs]e|copying|changelog)\b.*"
    r"|(authors|notice|citation|md5sums|sha1sums|sha256sums|checksums)"
    r"|.*\.(txt|md|rst|json|jsonl|csv|tsv|xml|ya?ml|toml|ini|cfg|cff|bib|html?|log|pdf|md5|sha1|sha256|py|ipynb|sh)",
    re.IGNORECASE | re.DOTALL,
)
_SIDE_FOLDERS = ("__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information")
_HIDDEN_FOLDERS = (
    *(".git", ".cache", ".huggingface", ".dvc", ".venv", ".ipynb_checkpoints", ".idea", ".vscode"),
    *(".thumbnails", ".appledouble", ".fseventsd", ".spotlight-v100", ".trashes"),
)
_WORDS = re.compile(r"[-._ 0-9]+")
_SHOWN = 5
_OF_RUNS = (".json", ".npy", ".safetensors", ".svg", ".html", ".md", ".pt", ".beton")
"""Endings of the files of runs."""
_LOOKED_AT = 64
"""Entries of a folder that are looked at to recognise an output of runs, which holds little but runs."""

_SIGNATURES = (
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"RIFF....WEBP", "WEBP"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", "BMP"),
    (rb"GIF8", "GIF"),
    (rb"II\*\x00|MM\x00\*|II\+\x00|MM\x00\+", "TIFF"),
    (rb"....ftyp(avif|avis)", "AVIF"),
    (rb"....ftyp(hei|mif|msf)", "HEIC"),
    (rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"8BPS", "Photoshop"),
    (rb"P[1-6]\s", "PNM"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL"),
)
_OTHERS = ((rb"PAR1", "Parquet"), (rb"version https://git-lfs", "a Git LFS pointer"))
_COMPILED = [(re.compile(pattern, re.DOTALL), name) for pattern, name in (*_SIGNATURES, *_OTHERS)]
HEAD_BYTES = 32
"""Bytes from which ``identify`` recognises a file."""
PICTURES = frozenset(name for _, name in _SIGNATURES)


def identify(head: bytes) -> str | None:
    """Name what a file's first bytes show: a format of pictures, Parquet, or a Git LFS pointer.

    Examples:
        >>> identify(b"GIF89a"), identify(b"some text")
        ('GIF', None)
    """
    return next((name for pattern, name in _COMPILED if pattern.match(head)), None)


def identify_file(file: Path) -> str | None:
    """Name what a file holds, by its first bytes."""
    with file.open("rb") as stream:
        return identify(stream.read(HEAD_BYTES))


def is_side_file(name: str) -> bool:
    """Return whether a file of this name goes with data but holds no example: text, metadata, an index of a desktop.

    A hidden file is one, except a placeholder of iCloud, whose picture is elsewhere.

    Examples:
        >>> [is_side_file(name) for name in ("Thumbs.db", "labels.csv", ".DS_Store", "README", "cat.jpg", "cat")]
        [True, True, True, True, False, False]
    """
    if name.startswith("."):
        return not name.casefold().endswith(".icloud")
    return _SIDE_FILES.fullmatch(name) is not None


def is_side_folder(name: str) -> bool:
    """Return whether a folder of this name belongs to a tool rather than to the data."""
    return name.casefold() in (*_SIDE_FOLDERS, *_HIDDEN_FOLDERS)


def is_output(folder: Path) -> bool:
    """Return whether a folder is a run, or the output of runs, which may lie within the data that they read.

    A folder with a picture or a Parquet file anywhere in it is none, so that no example is passed over.
    """
    return _is_named_output(folder) and not _holds_examples(folder)


def _is_named_output(folder: Path) -> bool:
    if is_run(folder):
        return True
    with os.scandir(folder) as entries:
        seen = [entry for entry in itertools.islice(entries, _LOOKED_AT) if not is_side_file(entry.name)]
    runs = [entry for entry in seen if entry.is_dir() and is_run(Path(entry.path))]
    return bool(runs) and all(entry in runs or entry.name in ("data", "shadows") for entry in seen)


def _holds_examples(folder: Path) -> bool:
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return any(file.is_file() and file.suffix not in _OF_RUNS and identify_file(file) is not None for file in files)


def is_run(folder: Path) -> bool:
    """Return whether a folder holds the record of a run."""
    record = folder / "config.json"
    return record.is_file() and b'"run_hash"' in record.read_bytes()


def list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the folders and the files in a folder, sorted, without the folders of tools and the outputs of runs.

    Raises:
        ValueError: An entry is neither, such as a broken link or a pipe, or a folder is hidden.
    """
    folders: list[Path] = []
    files: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if is_side_folder(entry.name) or is_output(Path(entry.path)):
                    continue
                if entry.name.startswith("."):
                    raise ValueError(f"{entry.path} would not be read, because it is hidden: rename it or move it")
                folders.append(Path(entry.path))
            elif entry.is_file():
                files.append(Path(entry.path))
            else:
                what = "a link to nothing" if entry.is_symlink() else "no file"
                raise ValueError(f"{entry.path} would not be read, because it is {what}: replace it or remove it")
    return sorted(folders), sorted(files)


def walk_files(root: Path) -> list[Path]:
    """List every file below a folder, sorted, without the folders of tools. Links are followed once."""
    found: list[Path] = []
    pending, visited = [root], set[Path]()
    while pending:
        folder = pending.pop()
        if (real := folder.resolve()) in visited:
            continue
        visited.add(real)
        folders, files = list_folder(folder)
        pending += folders
        found += files
    return sorted(found)


def open_hub_cache(root: Path) -> Path:
    """Return the snapshot in a folder of the Hub's cache (``blobs``, ``refs``, ``snapshots``), or the folder itself.

    Raises:
        ValueError: Several snapshots are there, and ``refs/main`` names none of them.
    """
    if not (root / "snapshots").is_dir() or not (root / "refs").is_dir():
        return root
    snapshots, _ = list_folder(root / "snapshots")
    main = root / "refs/main"
    named = main.read_text().strip() if main.is_file() else ""
    chosen = [folder for folder in snapshots if folder.name == named] or snapshots
    if len(chosen) != 1:
        raise ValueError(
            f"{root} is a cache of the Hub with {len(chosen)} snapshots{_listed(chosen)}: name one by source.path"
        )
    return chosen[0]


def name_set(words: str) -> SetName | None:
    """Return the set that a name spells, or None.

    Args:
        words: Name of a file without its ending, or of a folder.

    Raises:
        ValueError: The name spells more than one set.

    Examples:
        >>> name_set("train-00000-of-00001"), name_set("Val"), name_set("cat")
        ('train', 'validation', None)
    """
    found: set[SetName] = {SPELLINGS[word] for word in _WORDS.split(words.casefold()) if word in SPELLINGS}
    if len(found) > 1:
        raise ValueError(f"{words} names {' and '.join(sorted(found))}: rename it after one set")
    if not found:  # as earlier versions read "training2.parquet" and "testA.parquet"
        found = {SPELLINGS[name] for name in ("train", "test") if words.startswith(name)}
    return next(iter(found), None)


@dataclass(frozen=True, kw_only=True)
class Sets:
    """The files or folders of each set."""

    train: list[Path]
    test: list[Path]
    """The official test set; empty if the data have none."""
    notes: list[str] = field(default_factory=list)
    """What stands for the test set, and what is not used."""


def choose_sets(root: Path, members: Iterable[tuple[str, Path]]) -> Sets:
    """Choose the training set and the official test set: ``test`` if there is one, else ``validation``.

    Args:
        root: The data set's folder, for messages.
        members: Spelling of the set and path, of each file or folder.

    Raises:
        ValueError: A set has two spellings, or there is no training set.
    """
    spelt: dict[SetName, dict[str, list[Path]]] = {name: {} for name in get_args(SetName)}
    for word, path in members:
        name = name_set(word)
        assert name is not None, "the caller keeps what spells a set"
        spelt[name].setdefault(_spelling(word), []).append(path)
    for name, spellings in spelt.items():
        if len(spellings) > 1:
            raise ValueError(
                f"{root} holds {' and '.join(sorted(spellings))}, which are names of one set ({name}): keep one of "
                f"them, or give the others' files its name"
            )
    words = {name: next(iter(spellings), "") for name, spellings in spelt.items()}
    if not words["train"]:
        there = " and ".join(word for word in words.values() if word)
        raise ValueError(
            f"{root} holds {there} and no training set: name that one train, or set source.path to the part that is "
            f"to be read"
        )
    notes: list[str] = []
    if words["validation"] and words["test"]:
        notes.append(
            f"The data have a validation set, {words['validation']}, which is not used: the official test set is "
            f"{words['test']}."
        )
    elif words["validation"]:
        notes.append(f"The data have no test set: {words['validation']} is used as the official test set.")
    official = spelt["test"] or spelt["validation"]
    return Sets(
        train=[path for paths in spelt["train"].values() for path in paths],
        test=[path for paths in official.values() for path in paths],
        notes=notes,
    )


def _spelling(words: str) -> str:
    known = (word for word in _WORDS.split(words.casefold()) if word in SPELLINGS)
    return next(known, "train" if words.startswith("train") else "test")


def _listed(paths: list[Path]) -> str:
    names = [path.name for path in paths]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f" ({', '.join(names[:_SHOWN])}{more})" if names else ""
