"""User-supplied pictures, weights, lists and a project folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import user_models
from custom_audit import NUM_CLASSES, PER_CLASS
from in_process import rehearse_here
from PIL import Image


@pytest.fixture(autouse=True)
def rehearsal_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ungan_dist.runs.rehearsal.process.rehearse_in_process", rehearse_here)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 64 × 64 pixels in 20 classes: noise around one colour per class."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label in range(NUM_CLASSES):
        (root / f"class{label:02}").mkdir()
        colour = rng.integers(0, 256, 3)
        for number in range(PER_CLASS):
            noisy = np.clip(colour + rng.normal(scale=40, size=(64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(root / f"class{label:02}/{number:02}.png")
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "original.safetensors"
    safetensors.torch.save_file(user_models.linear(NUM_CLASSES, 3).state_dict(), path)
    return path


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A folder with lists of two forget examples and ten members per class."""
    indices = np.arange(NUM_CLASSES * PER_CLASS)
    (tmp_path / "forget.csv").write_text("index\n" + "\n".join(map(str, indices[indices % PER_CLASS < 2])) + "\n")
    np.save(tmp_path / "members.npy", indices[indices % PER_CLASS < 10])
    return tmp_path


PACKAGE = """
from torchvision.models import mobilenet_v3_small


def build(num_classes):
    return mobilenet_v3_small(weights=None, num_classes=num_classes)
"""


@pytest.fixture
def project(lists: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a user's package, weights and lists."""
    (lists / "mypackage").mkdir()
    (lists / "mypackage/__init__.py").touch()
    (lists / "mypackage/models.py").write_text(PACKAGE)
    for seed, name in enumerate(("weights", "unlearned")):
        torch.manual_seed(seed)
        safetensors.torch.save_file(user_models.mobile(NUM_CLASSES).state_dict(), lists / f"{name}.safetensors")
    monkeypatch.chdir(lists)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield lists
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        del sys.modules[name]
