"""Load, hash and check user-supplied weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import user_models
from custom_audit import NUM_CLASSES, PER_CLASS, custom_arguments, parse_config, run_command, write_noise_parquet

from ungan_dist.config.data import SourceConfig
from ungan_dist.config.identity import identity
from ungan_dist.config.recipes import custom
from ungan_dist.data.prepared import prepare
from ungan_dist.data.sources.source import load_source
from ungan_dist.files import hash_bytes
from ungan_dist.runs.given import given_sets
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.targets import train_target
from ungan_dist.training import given_weights
from ungan_dist.training.weights import load_weights, weights_bytes


def test_weights_changed_since_the_plan_are_refused(pictures: Path, lists: Path, weights: Path) -> None:
    own = lists / "w.safetensors"
    own.write_bytes(weights.read_bytes())
    plan = make_plan(
        parse_config(*custom_arguments(pictures, lists, "--original", str(own), "--members", f"{lists}/members.npy"))
    )
    prepare(plan.source, lists / "out")
    safetensors.torch.save_file(user_models.linear(NUM_CLASSES, 3).state_dict(), own)
    with pytest.raises(ValueError, match="has changed since the run began"):
        train_target(plan.originals[0])


def test_tied_weights_are_written_and_read(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    model[1].weight = model[0].weight
    (tmp_path / "tied.safetensors").write_bytes(weights_bytes(model))
    again = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    again[1].weight = again[0].weight
    load_weights(again, tmp_path / "tied.safetensors")
    assert torch.equal(again[1].weight, model[0].weight)


def test_the_hash_of_a_run_includes_the_content_of_given_weights(pictures: Path, lists: Path, weights: Path) -> None:
    def given_hash(content: bytes) -> str:
        (lists / "u.safetensors").write_bytes(content)
        more = (
            "--original",
            str(weights),
            "--members",
            f"{lists}/members.npy",
            "--unlearned",
            f"{lists}/u.safetensors",
        )
        config = parse_config(*custom_arguments(pictures, lists, *more))
        return given_sets(config, load_source(config.source)).given_hash

    same, other = weights.read_bytes(), safetensors.torch.save(user_models.linear(NUM_CLASSES, 3).state_dict())
    assert given_hash(same) == given_hash(same) != given_hash(other)


def test_the_note_about_given_weights_speaks_of_features_where_there_are_no_pixels(lists: Path, weights: Path) -> None:
    labels = np.repeat(np.arange(NUM_CLASSES), PER_CLASS)
    np.savez(lists / "t.npz", x=np.random.default_rng(0).normal(size=(len(labels), 4)), y=labels)
    given = ("--original", str(weights), "--members", f"{lists}/members.npy")
    for option, words in (
        ("", "standardised by the mean"),
        ("--source.no-standardise", "evaluated on features as read"),
    ):
        config = parse_config(*custom_arguments(lists / "t.npz", lists, *given, *filter(None, [option])))
        (note,) = [
            n for n in given_sets(config, load_source(config.source)).notes if "nothing in this table holds" in n
        ]
        assert words in note
        assert not any(word in note for word in ("pixels", "--source.mean", "--source.std"))


def test_given_moments_replace_the_computed_ones(project: Path) -> None:
    write_noise_parquet(Path("data.parquet"), [str(number) for number in range(30)])
    own, told = (
        SourceConfig(kind="auto", path="data.parquet", **more) for more in ({}, {"mean": (0.5,), "std": (2.0,)})
    )
    assert (load_source(told).mean, load_source(told).std) == ((0.5,), (2.0,))
    assert load_source(own).content_hash != load_source(told).content_hash
    base = custom(data="data.parquet")
    assert "mean" not in identity(base)["source"]
    assert identity(replace(base, source=told))["source"]["mean"] == [0.5]
    with pytest.raises(ValueError, match=r"each of the 1 channels"):
        load_source(replace(told, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match="go together"):
        SourceConfig(mean=(0.5,))


@pytest.mark.process
def test_the_same_weights_in_another_file_format_continue_the_run(
    pictures: Path, lists: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = safetensors.torch.load_file(weights)
    averaged = {name: 2 * value for name, value in state.items()}
    torch.save({"epoch": 3, "net": {f"module.{name}": value for name, value in state.items()}}, lists / "w.pt")
    torch.save({"model": state, "model_ema": averaged}, lists / "both.pt")

    def run(name: str, *more: str) -> int:
        given = ("--original", f"{lists}/{name}", "--members", f"{lists}/members.npy", "--methods", "original")
        return run_command("run", *custom_arguments(pictures, lists, *given, *more))

    shutil.copy(weights, lists / "w.safetensors")
    assert run("w.safetensors") == 0
    marker = lists / "out/run/results/0/original.json"
    before = marker.stat().st_mtime_ns
    assert run("w.pt") == 0
    assert run("both.pt", "--original-key", "model") == 0
    assert marker.stat().st_mtime_ns == before
    assert "The weights of both.pt were read from model." in (lists / "out/run/report.html").read_text()
    capsys.readouterr()
    assert run("both.pt") == 2
    assert "--original-key model" in capsys.readouterr().err
    assert run("both.pt", "--original-key", "model_ema") == 2
    assert "given_hash" in capsys.readouterr().err
    assert run_command("verify", str(lists / "out/run")) == 0
    assert run_command("report", str(lists / "out/run")) == 0


@pytest.mark.process
def test_a_run_known_by_the_bytes_of_its_file_of_weights_is_continued(
    pictures: Path, lists: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"state_dict": safetensors.torch.load_file(weights)}, lists / "w.pt")
    given = ("--original", f"{lists}/w.pt", "--unlearned", f"{lists}/w.pt", "--members", f"{lists}/members.npy")
    arguments = custom_arguments(pictures, lists, *given, "--methods", "original,unlearned")
    with monkeypatch.context() as earlier:  # earlier versions had no other hash of given weights
        earlier.setattr(given_weights, "_identify", lambda path, content, key: hash_bytes(content))
        assert run_command("run", *arguments) == 0
    markers = sorted((lists / "out/run/results/0").iterdir())
    before = [marker.stat().st_mtime_ns for marker in markers]
    assert run_command("run", *arguments) == 0
    assert [marker.stat().st_mtime_ns for marker in markers] == before
    assert run_command("verify", str(lists / "out/run")) == 0


def test_a_key_without_its_file_is_refused(pictures: Path, lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("run", *custom_arguments(pictures, lists, "--original-key", "ema")) == 2
    assert "name the file by --original" in capsys.readouterr().err
