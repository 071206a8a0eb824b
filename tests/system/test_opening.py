"""Opening a result runs no code: only ``run`` and a function that is named again call a user's model factory."""

from __future__ import annotations

import importlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from in_process import InProcess, rehearse_here, run_command
from small_audit import small_config
from torch import nn

from ungan_dist import load
from ungan_dist.config.training import ModelConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.storage.mirror import connect

pytestmark = pytest.mark.usefixtures("figures_are_drawn_once")

HARMLESS = """
from torch import nn

def build(num_classes, channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, num_classes))
"""
HOSTILE = "from pathlib import Path\nPath('executed').write_text('')\n" + HARMLESS
METHODS = ("original", "fine_tuning")


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Storage that holds a finished run of a user's model, made by ``their_net:build``."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "their_net.py").write_text(HARMLESS)
    config = small_config(folder / "work", model=ModelConfig(factory="their_net:build"), methods=METHODS)
    config = replace(config, train=replace(config.train, epochs=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        patch.setattr("ungan_dist.runs.rehearsal.process.rehearse_in_process", rehearse_here)
        mirror = connect(f"file://{folder}/there", folder=folder / "work")
        audit(config, run_units=InProcess(), mirror=mirror)
    return folder


@pytest.fixture
def place(own_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy in the current folder, beside a module of the same name that leaves a file when it is imported."""
    shutil.copytree(own_run, tmp_path, dirs_exist_ok=True)
    (tmp_path / "their_net.py").write_text(HOSTILE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(path for path in sys.path if Path(path) != own_run)])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delitem(sys.modules, "their_net", raising=False)
    importlib.invalidate_caches()
    return tmp_path


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    ("command", "code", "printed"),
    [
        (["verify", "RUN"], 0, "COMPLETE"),
        (["verify", "--quick", "RUN"], 0, "COMPLETE"),
        (["verify", "URL"], 0, "COMPLETE"),
        (["verify", "--recompute", "RUN"], 2, ""),
        (["report", "RUN"], 0, "Fine-Tuning"),
        (["report", "URL"], 0, "Fine-Tuning"),
        (["status", "RUN"], 0, "COMPLETE"),
        (["status", "URL"], 0, "COMPLETE"),
        (["runs", "OUTPUT"], 0, "COMPLETE"),
        (["export", "RUN"], 0, "Fine-Tuning"),
        (["export", "--records", "RUN"], 0, "personal data"),
        (["purge", "--dry-run", "RUN"], 0, "would be removed"),
        (["purge", "RUN"], 0, "removed"),
    ],
)
def test_no_command_that_opens_a_run_imports_its_factory(
    place: Path, command: list[str], code: int, printed: str
) -> None:
    if command[0] in ("report", "export"):  # not only what the last report said
        (place / "work/run/finished.json").unlink(missing_ok=True)
        (place / "work/run/table.md").unlink()
    names = {"RUN": str(place / "work/run"), "URL": f"file://{place}/there/run", "OUTPUT": str(place / "work")}
    result = run_command(*(names.get(word, word) for word in command))
    assert (result.returncode, result.stderr.count("Traceback")) == (code, 0), result.stderr
    assert printed in result.stdout
    assert not (place / "executed").exists()
    assert "their_net" not in sys.modules


def their_model(num_classes: int, channels: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, num_classes))


@pytest.mark.parametrize("where", ["folder", "storage"])
def test_a_users_model_is_loaded_only_into_what_is_given_again(place: Path, where: str) -> None:
    run = f"file://{place}/there/run" if where == "storage" else place / "work/run"
    with pytest.raises(ConfigError, match=r"made by their_net:build.*--model their_net:build"):
        load(run, "fine_tuning")
    module = their_model(10, 1)
    weights = [load(run, "fine_tuning", model=given).state_dict() for given in (module, their_model)]
    assert not module.training
    with pytest.raises(ConfigError, match="another architecture"):
        load(run, "fine_tuning", model=nn.Linear(64, 10))
    assert not (place / "executed").exists()
    weights.append(load(run, "fine_tuning", trust=True).state_dict())
    assert (place / "executed").exists()  # so that the tests above cannot pass by accident
    for name in weights[0]:
        assert all(torch.equal(weights[0][name], one[name]) for one in weights)


@pytest.mark.parametrize(
    ("words", "is_executed"),
    [(["--model", "mine:build"], False), (["--trust"], True), (["--model", "mine:wide"], None)],
)
def test_stored_models_are_evaluated_by_what_is_named_or_trusted(
    place: Path, words: list[str], is_executed: bool | None
) -> None:
    wide = HARMLESS.replace("build", "wide").replace("Pool2d(4)", "Pool2d(2)").replace("16 *", "4 *")
    (place / "mine.py").write_text(HARMLESS + wide)
    result = run_command("verify", "--recompute", *words, place / "work/run")
    if is_executed is None:
        assert result.returncode == 2
        assert "another architecture" in result.stderr
    else:
        assert (result.returncode, result.stdout) == (0, "COMPLETE\n"), result.stderr
    assert (place / "executed").exists() == bool(is_executed)


def test_a_run_uses_the_factory_of_the_command_line_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that names another factory is not this run, and the factory that it names is not called."""
    monkeypatch.setattr("ungan_dist.runs.rehearsal.process.rehearse_in_process", rehearse_here)
    (place / "mine.py").write_text(HARMLESS.replace("16 * channels", "4 * channels").replace("Pool2d(4)", "Pool2d(2)"))
    config = small_config(place / "work", model=ModelConfig(factory="mine:build"), methods=METHODS)
    config = replace(config, train=replace(config.train, epochs=1))
    with pytest.raises(ConfigError, match="another config"):
        audit(config, run_units=InProcess())
    assert not (place / "executed").exists()
