"""A command continues the run that it made before, with what that run settled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_audit import small_config

from ungan_dist.config.audit import AuditConfig
from ungan_dist.runs.plan import make_plan, reopen_plan
from ungan_dist.runs.record import write_record


def config_with(output: Path, unit_size: int) -> AuditConfig:
    config = small_config(output)
    return replace(config, shadows=replace(config.shadows, num_models=8, unit_size=unit_size))


@pytest.mark.parametrize("engine", ["stacked", "graph"])
def test_auto_keeps_the_engine_of_a_run_that_exists(tmp_path: Path, engine: str) -> None:
    """Earlier versions took ``stacked`` on every GPU."""
    config = config_with(tmp_path, 4)
    plan = make_plan(config)
    assert plan.record.resolved["engine"] == "serial"
    # the unit size of a stack stands in the hash of its run
    record = replace(plan.record, config=config if engine == "stacked" else plan.record.config)
    made = reopen_plan(replace(record, resolved=plan.record.resolved | {"engine": engine}))
    made.folder.mkdir()
    write_record(made.folder, made.record)
    again = make_plan(config)
    assert again.record.resolved == made.record.resolved
    assert [unit.id for unit in again.shadows] == [unit.id for unit in made.shadows]
    assert [unit.id for unit in again.targets] == [unit.id for unit in made.targets]
    assert [len(unit.shadows) for unit in again.shadows] == ([4, 4] if engine == "stacked" else [2, 2, 2, 2])


def test_a_run_on_another_device_settles_nothing(tmp_path: Path) -> None:
    plan = make_plan(config_with(tmp_path, 4))
    resolved = plan.record.resolved | {"device": "cuda", "engine": "graph"}
    plan.folder.mkdir()
    write_record(plan.folder, replace(plan.record, resolved=resolved))
    assert make_plan(config_with(tmp_path, 4)).record.resolved["engine"] == "serial"
