"""The command line rehearses a user's model: sound ones run to a report, others are refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from in_process import InProcess, assert_refused, run_command
from sklearn.datasets import load_digits

from ungan_dist.runs import pipeline


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 8 × 8 digits of three classes, with lists."""
    from PIL import Image

    root = tmp_path_factory.mktemp("digits")
    names: list[str] = []
    bunch = load_digits()
    for label in range(3):
        (root / "pictures" / str(label)).mkdir(parents=True)
        for number, image in enumerate(bunch.images[bunch.target == label][:60]):
            names.append(f"{label}/{number:03}.png")
            Image.fromarray((image * 255 / 16).astype(np.uint8)).save(root / "pictures" / names[-1])
    members = list(np.random.default_rng(0).permutation(names)[:90])
    (root / "forget.csv").write_text("\n".join(["id", *members[:6]]))
    (root / "members.csv").write_text("\n".join(["id", *members]))
    return root


def arguments(digits: Path, output: Path, model: str, *more: str) -> list[str]:
    return [
        *("custom", "--model", f"misbehaving_models:{model}", "--source.path", str(digits / "pictures")),
        *("--forget", str(digits / "forget.csv"), "--members", str(digits / "members.csv"), "--train.epochs", "1"),
        *("--shadows.num-models", "4", "--attack.fnr", "0.1", "--attack.num-resamples", "100"),
        *("--methods", "original,retrain,ungan", "--output", str(output), *more),
    ]


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        ("AlwaysDropping", (), "random in eval mode"),
        ("without_statistics", (), "keeps no running statistics"),
        ("dropping", ("--shadows.engine", "stacked"), "use --shadows.engine serial"),
        ("ReadsWeights", ("--shadows.engine", "graph"), "a tensor's value on the host"),
    ],
)
def test_unsuitable_models_are_refused(
    command: str, model: str, more: tuple[str, ...], words: str, digits: Path, tmp_path: Path
) -> None:
    no_probe = ("--no-probe",) if command == "plan" else ()
    result = run_command(command, *arguments(digits, tmp_path / "out", model, *more, *no_probe))
    assert_refused(result, words)
    assert not (tmp_path / "out").exists()


def test_a_run_is_rehearsed_until_it_is_finished(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_figures: None
) -> None:
    class Pool(InProcess):
        def __init__(self, num_processes: int | None) -> None:
            super().__init__()

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        @property
        def run_units(self) -> Pool:
            return self

    monkeypatch.setattr(pipeline, "LocalPool", Pool)
    words = arguments(digits, tmp_path / "out", "probabilities", "--execution.progress", "json")
    first = run_command("run", *words)
    assert first.returncode == 0, first.stderr
    assert "The model returns probabilities" in first.stderr
    assert "3 method(s)" in first.stderr
    second = run_command("run", *words)
    assert second.returncode == 0
    assert "rehearsal" not in second.stderr
    page = next((tmp_path / "out").rglob("report.html"))
    assert "The model returns probabilities" in page.read_text()  # kept for the second report
    page.unlink()
    assert run_command("run", *words[:-1], "none").stderr == ""
    assert "The model returns probabilities" in page.read_text()
    fresh = run_command("run", *words[:-1], "none", "--output", str(tmp_path / "fresh"))
    assert "warning: rehearsal: The model returns probabilities" in fresh.stderr
    assert "warning: plan: expected 90 % interval" in fresh.stderr
