"""A user's factory: refusals before anything is written, and its part in the hashes of run and fleet."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from in_process import rehearse_here
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist.cli import main
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.training import ModelConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs.folder import open_run
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.record import read_run
from ungan_dist.runs.rehearsal import process
from ungan_dist.training.factories import call_factory, hash_architecture


@pytest.fixture(autouse=True)
def rehearsal_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "rehearse_in_process", rehearse_here)


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def with_factory(factory: str) -> list[str]:
    return ["digits", *SMALL_OPTIONS, "--model.factory", factory]


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("unusual_models:lazy", ["1.weight", "no shape yet", "LazyLinear"]),
        ("unusual_models:without_parameters", ["no parameters"]),
        ("unusual_models:not_finite", ["not finite", "Sequential", "initial"]),
        ("unusual_models:all_frozen", ["every parameter", "frozen", "0.0.weight", "requires_grad"]),
        ("unusual_models:leaving", ["unusual_models:leaving", "called sys.exit(0)", "leave that out"]),
        ("unusual_models:leaving_when_asked", ["cannot take images", "called sys.exit(0)"]),
        ("unusual_models:absent", ["unusual_models.py", "no function 'absent'"]),
        ("leaves_at_import:f", ["importing leaves_at_import", "called sys.exit(0)"]),
        ("broken:f", ["importing broken", "SyntaxError", "broken.py, line 1"]),
        ("needy:f", ["importing needy needs no_such_library", "install it"]),
    ],
)
@pytest.mark.parametrize("name", ["run", "plan"])
def test_untrainable_models_are_refused_at_once(
    name: str,
    factory: str,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    module: Callable[[str, str], None],
) -> None:
    module("leaves_at_import", "import sys; sys.exit(0)")
    module("broken", "def f(:")
    module("needy", "import no_such_library")
    more = ["--no-probe"] if name == "plan" else []
    assert command(name, *with_factory(factory), "--output", str(tmp_path / "out"), *more) == 2
    captured = capsys.readouterr()
    for word in words:
        assert word in captured.err
    assert ("num_classes" in captured.err) == (factory == "unusual_models:leaving")
    assert not captured.out
    assert not (tmp_path / "out").exists()


def test_output_printed_by_a_factory_is_ignored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*with_factory("unusual_models:talking"), "--output", str(tmp_path / "out"), "--no-probe", "--json"]
    assert command("plan", *arguments) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)
    assert "a factory speaks" in captured.err


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Rewrite a user's module, as another process would find it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # its cache does not distinguish versions within one second
    written: set[str] = set()

    def write(name: str, text: str) -> None:
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        written.add(name)

    yield write
    for name in written:
        sys.modules.pop(name, None)


NET = """
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, {width}), nn.{activation}(), nn.Linear({width}, num_classes))
"""


def own(output: Path, **changes: object) -> AuditConfig:
    return small_config(output, model=ModelConfig(factory="net:build"), **changes)


def names(plan: Plan) -> tuple[str, list[str], list[str]]:
    return plan.record.run_hash, [unit.id for unit in plan.targets], [unit.id for unit in plan.shadows]


def test_hashes_of_run_and_fleet_include_the_architecture(tmp_path: Path, module: Callable[[str, str], None]) -> None:
    def planned(text: str) -> tuple[str, list[str], list[str]]:
        module("net", text)
        return names(make_plan(own(tmp_path)))

    narrow = planned(NET.format(width=8, activation="ReLU"))
    wide = planned(NET.format(width=9, activation="ReLU"))
    assert narrow[0] != wide[0]
    assert not {*narrow[1], *narrow[2]} & {*wide[1], *wide[2]}
    assert planned("# a comment\n" + NET.format(width=8, activation="GELU")) == narrow
    frozen = NET.replace("return ", "net = ") + "    net[1].requires_grad_(False)\n    return net\n"
    assert planned(frozen.format(width=8, activation="ReLU"))[0] not in (narrow[0], wide[0])


def test_another_architecture_is_another_run(tmp_path: Path, module: Callable[[str, str], None]) -> None:
    module("net", NET.format(width=8, activation="ReLU"))
    config = own(tmp_path)
    with open_run(config) as plan:
        folder = plan.folder
    record = read_run(folder)
    assert dataclasses.replace(record.config, output=config.output) == dataclasses.replace(
        config, execution=record.config.execution, shadows=record.config.shadows
    )
    assert record.run_hash == plan.record.run_hash

    module("net", NET.format(width=9, activation="ReLU"))
    with pytest.raises(ConfigError, match=r"holds a run of another config: architecture"), open_run(config):
        pass


def test_a_factory_is_given_what_it_names() -> None:
    images = torch.zeros(2, 3, 8, 8)
    assert call_factory("user_models:keywords", 3, 5)(images).shape == (2, 5)
    assert call_factory("user_models:linear", 3, 5)(images).shape == (2, 5)


class Settings(dict[str, object]):
    """The config of a model of transformers."""

    def to_dict(self) -> dict[str, object]:
        return dict(self)


class Described(torch.nn.Linear):
    """A layer with a config, as the models of transformers have one."""

    def __init__(self, **settings: object) -> None:
        super().__init__(2, 2)
        self.config = Settings(settings)


@pytest.mark.parametrize(
    ("settings", "is_same"),
    [
        ({"dropout": 0.5}, False),
        ({"dropout": 0.1, "activation": "relu"}, False),
        ({"dropout": 0.1, "transformers_version": "6"}, True),
        ({"dropout": 0.1, "_name_or_path": "elsewhere"}, True),
    ],
)
def test_values_of_a_models_config_are_part_of_its_architecture(settings: dict[str, object], is_same: bool) -> None:
    ours = hash_architecture(torch.nn.Sequential(Described(dropout=0.1)))
    assert (hash_architecture(torch.nn.Sequential(Described(**settings))) == ours) is is_same
