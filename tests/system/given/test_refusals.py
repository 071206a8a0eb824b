"""Refuse user-supplied inputs that do not fit, before anything is written."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import user_models
from custom_audit import NUM_CLASSES, PER_CLASS, custom_arguments, run_command
from PIL import Image


def _write(name: str, text: str) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / name).write_text(text)
        return []

    return prepare


PAYLOAD = str(Path(tempfile.gettempdir()) / "ungan-dist-payload")


class _Payload:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (PAYLOAD,)


def _weights(folder: Path, state: object, name: str = "w.pt") -> list[str]:
    torch.save(state, folder / name)
    return ["--original", str(folder / name), "--members", str(folder / "members.npy")]


def _pickle(folder: Path) -> list[str]:
    (folder / "w.pt").write_bytes(pickle.dumps(_Payload()))
    return ["--original", str(folder / "w.pt"), "--members", str(folder / "members.npy")]


LAST = NUM_CLASSES * PER_CLASS - 1


BAD = {
    "a factory that raises": (lambda folder: ["--model", "user_models:raising"], ["raising", "out of ideas"]),
    "a factory that returns no module": (lambda folder: ["--model", "user_models:no_module"], ["nn.Module", "int"]),
    "a factory that is not there": (lambda folder: ["--model", "user_models:absent"], ["absent"]),
    "a module that is not there": (lambda folder: ["--model", "no_such_module:f"], ["no_such_module"]),
    "no function": (lambda folder: ["--model", "user_models"], ["module:function"]),
    "too few outputs": (lambda folder: ["--model", "user_models:too_few_outputs"], ["19", "20 classes"]),
    "no logits": (lambda folder: ["--model", "user_models:without_logits"], ["returns dict", "logits [batch, 20]"]),
    "a model that takes other pictures": (
        lambda folder: ["--model", "user_models:for_eight_pixels"],
        ["(3, 64, 64)", "cannot take images"],
    ),
    "weights that give no numbers": (
        lambda folder: _weights(
            folder,
            {name: value * torch.nan for name, value in user_models.linear(NUM_CLASSES, 3).state_dict().items()},
        ),
        ["w.pt", "not finite"],
    ),
    "seeds that all have one model": (
        lambda folder: [*_weights(folder, {}), "--num-seeds", "3"],
        ["over 3 seeds", "no width"],
    ),
    "weights of another architecture": (
        lambda folder: _weights(folder, user_models.linear(3, 3).state_dict()),
        ["w.pt", "Sequential"],
    ),
    "a pickle inside": (_pickle, ["w.pt", "none of its code was run"]),
    "no such weights": (
        lambda folder: ["--original", str(folder / "absent.safetensors")],
        ["absent.safetensors", "does not exist"],
    ),
    "an index out of range": (_write("forget.csv", f"3\n{LAST + 1}\n"), [str(LAST + 1), f"0 … {LAST}"]),
    "a negative index": (_write("forget.csv", "-1"), ["-1", f"0 … {LAST}"]),
    "a number only to Python": (_write("forget.csv", "1_0"), ["no example '1_0'"]),
    "a repeated example": (_write("forget.csv", "3\n4\n3\n"), ["example 3", "once"]),
    "an empty list": (_write("forget.csv", "index\n"), ["lists no example"]),
    "everything": (_write("forget.csv", "\n".join(map(str, range(LAST + 1)))), ["to retain", "shorten the list"]),
    "an id that the data lacks": (_write("forget.csv", "class00/99.png"), ["class00/99.png", "class00/00.png"]),
    "a whole class": (
        _write("forget.csv", "\n".join(map(str, range(PER_CLASS)))),
        ["every training example of class 'class00'", "--split.forget class=class00"],
    ),
    "an example that was not trained on": (
        lambda folder: [*_write("forget.csv", "15")(folder), "--members", str(folder / "members.npy")],
        ["example 15 was not trained on"],
    ),
    "a model trained on everything": (
        lambda folder: _weights(folder, user_models.linear(NUM_CLASSES, 3).state_dict())[:2],
        ["never seen. The attacks need at least 12", "--members"],
    ),
    "unlearned without its weights": (lambda folder: ["--methods", "original,unlearned"], ["by --unlearned"]),
}


def modification_times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("name", BAD)
def test_unsuitable_inputs_are_refused_before_anything_is_written(
    name: str, pictures: Path, lists: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_files, words = BAD[name]
    changes = prepare_files(lists)
    base = custom_arguments(pictures, lists)
    # an option may not be given twice
    arguments = [*(base[:1] + base[3:] if "--model" in changes else base), *changes]
    before = modification_times(lists)
    assert run_command("run", *arguments) == 2
    message = " ".join(capsys.readouterr().err.replace("│", " ").split())
    for word in words:
        assert word in message
    assert modification_times(lists) == before
    assert not Path(PAYLOAD).exists()


def test_pictures_of_mixed_sizes_are_refused(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = tmp_path / "mixed"
    for label in range(2):
        (mixed / str(label)).mkdir(parents=True)
        Image.new("RGB", (64 + label, 64)).save(mixed / f"{label}/a.png")
    assert run_command("run", *custom_arguments(mixed, lists)) == 2
    message = capsys.readouterr().err
    assert "is 65×64 pixels" in message
    assert "--source.resize N" in message
    assert not (lists / "out").exists()


def test_labels_as_fractions_are_refused(lists: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(pa.table({"image": [{"bytes": b"", "path": ""}], "label": [0.5]}), tmp_path / "data.parquet")
    assert run_command("run", *custom_arguments(tmp_path / "data.parquet", lists)) == 2
    message = capsys.readouterr().err
    assert "column label holds double" in message
    assert "labels must be integers from 0 on" in message
    assert not (lists / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["--unlearned FILE"]),
        (["--unlearned", "w.safetensors", "--methods", "original,retrain"], ["original,retrain", "add it"]),
        (["--unlearned", "w.safetensors"], ["by --members", "give --original"]),
    ],
)
def test_an_audit_with_missing_or_conflicting_options_is_refused(
    arguments: list[str], words: list[str], pictures: Path, lists: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = ["--members", str(lists / "members.npy")] if "--methods" in arguments else []
    assert run_command("audit", *custom_arguments(pictures, lists, *members)[1:], *arguments) == 2
    message = " ".join(capsys.readouterr().err.replace("│", " ").split())
    for word in words:
        assert word in message
    assert not (lists / "out").exists()
