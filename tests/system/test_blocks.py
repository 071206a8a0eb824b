"""Shadow models are committed in pairs, whatever the unit size; blocks of earlier versions are still used."""

from __future__ import annotations

import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess, run_command
from small_audit import SMALL_OPTIONS, small_config
from torch.optim import SGD

from ungan_dist.config.audit import AuditConfig
from ungan_dist.runs.folder import open_run
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import blocks_of, make_plan
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.units import Done, execute
from ungan_dist.training.optimizers import without_compiler

without_figures = pytest.mark.usefixtures("without_figures")
FINISHED = Path(__file__).parent / "fixtures/finished-3.tar.xz"


def fleet(output: Path, **changes: Any) -> AuditConfig:
    """The original of the small audit, and its shadow models."""
    config = small_config(output, methods=("original",))
    return replace(config, shadows=replace(config.shadows, **changes))


def table(output: Path) -> bytes:
    return (output / "run/table.json").read_bytes()


def trained(runner: InProcess) -> list[tuple[int, ...]]:
    return [unit.shadows for unit in runner.units if isinstance(unit, ShadowUnit)]


@without_figures
def test_the_unit_size_changes_no_bit_and_no_hash(tmp_path: Path) -> None:
    runs: list[tuple[str, bytes]] = []
    for unit_size in (2, 8):
        runner = InProcess()
        report = audit(fleet(tmp_path / str(unit_size), unit_size=unit_size), run_units=runner)
        assert trained(runner) == [(0, 1), (2, 3)]
        runs.append((report.run_hash, table(tmp_path / str(unit_size))))
    assert len(set(runs)) == 1


@without_figures
def test_blocks_that_an_earlier_version_committed_are_used_and_give_the_same_bits(tmp_path: Path) -> None:
    config = fleet(tmp_path / "earlier", num_models=6)
    with open_run(config) as plan:
        assert isinstance(execute(blocks_of(plan).make_unit(0, 4)), Done)
    runner = InProcess()
    audit(config, run_units=runner)
    assert trained(runner) == [(4, 5)]
    audit(fleet(tmp_path / "pairs", num_models=6), run_units=InProcess())
    assert table(tmp_path / "earlier") == table(tmp_path / "pairs")
    assert run_command("verify", tmp_path / "earlier/run").stdout == "COMPLETE\n"


@without_figures
def test_a_damaged_block_of_an_earlier_version_is_trained_again_in_pairs(tmp_path: Path) -> None:
    config = fleet(tmp_path, num_models=4)
    with open_run(config) as plan:
        block = blocks_of(plan).make_unit(0, 4)
        execute(block)
    with (tmp_path / block.log_odds_file).open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(bytes(4))
    runner = InProcess()
    assert audit(config, run_units=runner).status == "COMPLETE"
    assert trained(runner) == [(0, 1), (2, 3)]


@without_figures
@pytest.mark.parametrize("run_name", ["run", None])
def test_a_run_with_another_unit_size_is_found(tmp_path: Path, run_name: str | None) -> None:
    """Its hash has unit size 2, where the recipe's default is 8."""
    with tarfile.open(FINISHED) as archive:
        archive.extractall(tmp_path, filter="data")
    options = list(SMALL_OPTIONS)
    if run_name is None:
        options = options[: options.index("--execution.run-name")]
        hash = make_plan(small_config(tmp_path)).record.run_hash
        (tmp_path / "run").rename(tmp_path / f"digits-{hash[:8]}")
    before = sorted(path.name for path in tmp_path.iterdir())
    shadows = sorted((tmp_path / "shadows").iterdir())
    for unit_size in ("4", "8"):  # the second answer comes from the finished run
        options[options.index("--shadows.unit-size") + 1] = unit_size
        result = run_command("run", "digits", *options, "--output", tmp_path)
        assert result.returncode == 0, result.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert sorted((tmp_path / "shadows").iterdir()) == shadows


@without_figures
def test_a_stack_that_ended_within_a_block_is_extended_without_repeated_training(tmp_path: Path) -> None:
    config = fleet(tmp_path, num_models=6, unit_size=4, engine="stacked")
    runner = InProcess()
    audit(config, run_units=runner)
    assert trained(runner) == [(0, 1, 2, 3), (4, 5)]
    runner = InProcess()
    report = audit(replace(config, shadows=replace(config.shadows, num_models=12)), run_units=runner)
    assert trained(runner) == [(6, 7), (8, 9, 10, 11)]
    assert report.sizes["shadows"] == 12


class Interrupted(BaseException):
    """Ends a training from outside: an exception of its own would end its unit for good."""


@pytest.mark.parametrize("engine", ["serial", "stacked"])
def test_an_attempt_continues_where_the_last_one_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """An attempt repeats none of the epochs that an earlier one completed, and gives the same bits."""
    monkeypatch.setattr("ungan_dist.runs.units.CHECKPOINT_INTERVAL_S", 0.0)
    kind_of_optimizer = without_compiler(SGD)
    step, steps, last = kind_of_optimizer.step, 0, 10**6

    def counted(self: SGD, *arguments: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps > last:
            raise Interrupted
        return step(self, *arguments, **named)

    monkeypatch.setattr(kind_of_optimizer, "step", counted)

    def attempt(name: str) -> tuple[str, ShadowUnit]:
        nonlocal steps
        steps = 0
        with open_run(fleet(tmp_path / name, engine=engine, unit_size=2)) as plan:
            return execute(plan.shadows[0]).kind, plan.shadows[0]

    kind, unit = attempt("whole")
    assert kind == "done"
    expected = (tmp_path / "whole" / unit.log_odds_file).read_bytes()
    num_epochs = 6 if engine == "serial" else 3  # the models of a stack take their steps together
    per_epoch = steps // num_epochs
    last = steps - 1
    with pytest.raises(Interrupted):
        attempt("cut")
    last = 10**6
    assert attempt("cut")[0] == "done"
    assert steps == per_epoch
    assert (tmp_path / "cut" / unit.log_odds_file).read_bytes() == expected
    assert not (tmp_path / "cut/shadows" / unit.id).exists()
