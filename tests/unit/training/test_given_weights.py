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

from ungan_dist.files import hash_bytes
from ungan_dist.training.given_weights import load_given_weights, locate_weights, select_weights


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 5))


def state() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return net().state_dict()


def other_state() -> dict[str, Tensor]:
    return {name: value + 1 for name, value in state().items()}


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
    "two models": (
        _save({"model": state(), "state_dict": other_state()}),
        ["model and state_dict", "--original-key model"],
    ),
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


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "model.safetensors.index.json"])
def test_one_of_several_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(safetensors.torch.save(dict(list(state().items())[:1])))
    with pytest.raises(ValueError, match=r"one of several files of a checkpoint.*in one file"):
        read(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "model-00001-of-00001.safetensors")
    with pytest.raises(ValueError, match="does not hold weights"):
        read(tmp_path / "model-00001-of-00001.safetensors")


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


def averaged() -> dict[str, Tensor]:
    return {name: value * 2 if value.is_floating_point() else value for name, value in state().items()}


TWO_SETS: dict[str, tuple[dict[str, Any], str, str]] = {
    "timm": ({"state_dict": state(), "state_dict_ema": averaged(), "arch": "x"}, "state_dict", "state_dict_ema"),
    "torchvision's references": (
        {
            "model": state(),
            "model_ema": {f"module.{name}": value for name, value in averaged().items()}
            | {"n_averaged": torch.tensor(3)},
            "epoch": 1,
        },
        "model",
        "model_ema",
    ),
    "nested": ({"nets": {"g": state(), "g_ema": averaged()}, "iter": 5}, "nets.g", "nets.g_ema"),
    "prefixes": (
        prefixed("student.") | {f"teacher.{name}": value for name, value in averaged().items()},
        "student",
        "teacher",
    ),
    "prefixes in Lightning's file": (
        {
            "state_dict": prefixed("model.") | {f"ema.module.{name}": value for name, value in averaged().items()},
            "epoch": 3,
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9)}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}],
        },
        "state_dict.model",
        "state_dict.ema",
    ),
}


@pytest.mark.parametrize("kind", TWO_SETS)
def test_raw_and_averaged_weights_are_a_question(tmp_path: Path, kind: str) -> None:
    content, raw, average = TWO_SETS[kind]
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match="--original-key") as refused:
        read(path)
    assert f"{raw} and {average}" in str(refused.value)
    for key, expected in ((raw, state()), (average, averaged())):
        found = load_given_weights(net(), locate_weights(path, key)).state_dict()
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    with pytest.raises(ValueError, match=f"under 'wrong'; it has: {raw} and {average}"):
        load_given_weights(net(), locate_weights(path, "wrong"))


def test_averages_without_names_are_a_question(tmp_path: Path) -> None:
    content = {"model": state(), "ema": {"decay": 0.99, "shadow_params": list(averaged().values())}}
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"without names under ema\.shadow_params.*--original-key model"):
        read(tmp_path / "w.pt")
    found = load_given_weights(net(), locate_weights(tmp_path / "w.pt", "model")).state_dict()
    assert all(torch.equal(found[name], value) for name, value in state().items())


def with_inner(part: str) -> dict[str, Tensor]:
    """Names as of a model whose first layer alone was wrapped."""
    return {name.replace("0.", f"0.{part}.", 1): value for name, value in state().items()}


WRAPPED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "net": ({"net": state(), "acc": 91.2, "epoch": 3}, ["from net"]),
    "Lightning": ({"state_dict": prefixed("model."), "hyper_parameters": {"lr": 0.1}}, ["from state_dict.model"]),
    "Lightning with a loss and a metric": (
        {"state_dict": prefixed("model.") | {"criterion.weight": torch.ones(5), "accuracy.tp": torch.ones(5)}},
        ["from state_dict.model", "Left out: criterion.weight and accuracy.tp"],
    ),
    "AveragedModel": (prefixed("module.") | {"n_averaged": torch.tensor(7)}, ["Left out: n_averaged"]),
    "compiled": ({"model": prefixed("_orig_mod.")}, ["from model"]),
    "compiled within": ({"model": with_inner("_orig_mod")}, ["from model"]),
    "parallel within": (with_inner("module"), []),
    "compiled within a wrapper": (prefixed("net._orig_mod.module."), ["from net"]),
    "a scalar beside the weights": (
        state() | {"temperature": torch.tensor(1.5), "epoch": 3},
        ["temperature and epoch"],
    ),
    "a discriminator": ({"g": state(), "d": nn.Linear(3, 1).state_dict()}, ["from g"]),
    "equal twice": ({"model": state(), "state_dict": state()}, ["from model"]),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrappers_of_trainers_are_read_and_the_note_names_what_was_left_out(tmp_path: Path, kind: str) -> None:
    content, words = WRAPPED[kind]
    path = tmp_path / "w.pt"
    torch.save(content, path)
    assert all(torch.equal(value, state()[name]) for name, value in read(path).items())
    note = select_weights(net(), locate_weights(path)).note
    assert all(word in note for word in words)
    assert bool(note) == bool(words)


def test_a_layer_too_many_is_refused_and_a_layer_of_a_larger_model_is_not_taken_for_it(tmp_path: Path) -> None:
    torch.save(state() | {"4.weight": torch.ones(5, 5)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"Unexpected key\(s\) in state_dict: \"4.weight\""):
        read(tmp_path / "w.pt")
    larger = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    torch.save(larger.state_dict(), tmp_path / "larger.pt")
    with pytest.raises(ValueError, match="does not hold weights of this Linear"):
        read(tmp_path / "larger.pt", nn.Linear(4, 4))


def test_the_same_weights_have_one_identity_in_every_format(tmp_path: Path) -> None:
    content: list[Any] = [
        *(state(), {"state_dict": state(), "epoch": 3}, prefixed("module."), {"net": prefixed("_orig_mod.")}),
        {"state_dict": prefixed("model.")},
        prefixed("module.") | {"n_averaged": torch.tensor(7)},
    ]
    paths = [tmp_path / f"{number}.pt" for number in range(len(content))]
    for held, path in zip(content, paths, strict=True):
        torch.save(held, path)
    safetensors.torch.save_file(state(), tmp_path / "plain.safetensors")
    safetensors.torch.save_file(state(), tmp_path / "tagged.safetensors", metadata={"format": "pt"})
    paths += [tmp_path / "plain.safetensors", tmp_path / "tagged.safetensors"]
    identities = {locate_weights(path).identity for path in paths}
    assert identities == {hash_bytes((tmp_path / "plain.safetensors").read_bytes())}
    both = tmp_path / "both.pt"
    torch.save({"model": state(), "ema": averaged()}, both)
    torch.save(averaged(), tmp_path / "averaged.pt")
    assert locate_weights(both, "model").identity in identities
    assert locate_weights(both, "ema").identity == locate_weights(tmp_path / "averaged.pt").identity
    assert locate_weights(both, "ema").identity not in identities
