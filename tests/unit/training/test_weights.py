"""Files of user-supplied weights are read in every usual form and refused otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ungan_dist.training.weights import load_given_weights, locate_weights


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 5))


def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return net().state_dict()


def read(path: Path, model: nn.Module | None = None) -> dict[str, Tensor]:
    return load_given_weights(model or net(), locate_weights(path)).state_dict()


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state().items()}


@pytest.mark.parametrize("name", ["w.safetensors", "w.SAFETENSORS", "w.bin", "w.pt"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_safetensors_are_read_under_any_file_name_and_wrapper_prefix(tmp_path: Path, name: str, prefix: str) -> None:
    safetensors.torch.save_file(prefixed(prefix), tmp_path / name)
    assert all(torch.equal(value, state()[key]) for key, value in read(tmp_path / name).items())


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
def test_checkpoints_are_read_as_training_scripts_write_them(
    tmp_path: Path, wrapper: str | None, zipped: bool, prefix: str
) -> None:
    content: Any = prefixed(prefix) if wrapper is None else {wrapper: prefixed(prefix), "epoch": 3}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    assert all(torch.equal(value, state()[key]) for key, value in read(tmp_path / "w.pt").items())


def test_the_models_own_prefix_is_kept(tmp_path: Path) -> None:
    wrapped = nn.Module()
    wrapped.module = net()
    safetensors.torch.save_file(prefixed("module."), tmp_path / "w.safetensors")
    assert all(
        torch.equal(value, prefixed("module.")[key]) for key, value in read(tmp_path / "w.safetensors", wrapped).items()
    )


class _Wrapped(nn.Module):
    """A module that exists only in this test."""


def _save(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


BAD: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "a whole module": (_save(_Wrapped()), ["_Wrapped", "none of its code was run", "model.state_dict()"]),
    "a list": (_save([1, 2]), ["holds a list"]),
    "a tensor": (_save(torch.ones(2)), ["holds a Tensor"]),
    "numbers as names": (_save({1: torch.ones(2)}), ["under 1"]),
    "text among tensors": (_save({**state(), "0.weight": "abc"}), ["str under '0.weight'"]),
    "two models": (_save({"model": state(), "state_dict": state()}), ["state_dict and model"]),
    "integers for weights": (
        _save({name: value.long() for name, value in state().items()}),
        ["0.weight holds int64 where the model has float32"],
    ),
    "another architecture": (_save(nn.Linear(3, 3).state_dict()), ["weights of this Sequential"]),
    "nothing": (lambda path: path.write_bytes(b""), ["damaged"]),
    "a folder": (lambda path: path.mkdir(), ["is a folder"]),
    "no file": (lambda path: None, ["does not exist"]),
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_refused_with_a_remedy(tmp_path: Path, name: str) -> None:
    write, words = BAD[name]
    write(tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt") as refused:
        read(tmp_path / "w.pt")
    for word in words:
        assert word in str(refused.value)
    assert "weights_only" not in str(refused.value)
    assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damage_anywhere_in_a_file_is_reported(tmp_path: Path, kind: str) -> None:
    """A few hundred flipped bytes raise a dozen kinds of errors inside torch."""
    path = tmp_path / "w.bin"
    if kind == "safetensors":
        safetensors.torch.save_file(state(), path)
    else:
        torch.save(state(), path, _use_new_zipfile_serialization=kind == "zip")
    whole, rng, model = path.read_bytes(), np.random.default_rng(0), net()
    messages: list[str] = []
    for _ in range(250):
        damaged = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 1500), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged[: rng.integers(0, len(damaged))] if rng.random() < 0.2 else damaged)
        try:
            load_given_weights(model, locate_weights(path))
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) > 50
    assert all("w.bin" in words and "weights_only" not in words for words in messages)
