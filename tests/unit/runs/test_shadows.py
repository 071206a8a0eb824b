"""Shadow models that several processes train: those of one process up to rounding, and a kill costs little."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from in_process import InProcess
from process_groups import in_world
from small_audit import small_config
from world_methods import log_odds_of_shadows

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import identity
from ungan_dist.config.training import ShadowConfig
from ungan_dist.runs.folder import open_run
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.training.world import World


def together(output: Path, **changes: object) -> AuditConfig:
    """Four shadow models on 200 examples each, in batches that two processes share unevenly."""
    config = small_config(output)
    train = dataclasses.replace(config.train, num_workers=2, batch_size=25, **changes)
    return dataclasses.replace(config, train=train, shadows=dataclasses.replace(config.shadows, data_parallel=True))


def units(config: AuditConfig) -> list[ShadowUnit]:
    with open_run(config) as plan:
        return plan.shadows


@pytest.mark.timeout(300)
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.process
def test_processes_agree_with_one_in_float64(tmp_path: Path, size: int) -> None:
    """24 steps with statistics of the global batch, in shares of 13 and 12, or of 9, 8 and 8 rows."""
    (first, _) = units(together(tmp_path))
    alone = log_odds_of_shadows(World(), first)
    for log_odds in in_world(size, "world_methods:log_odds_of_shadows", first):
        assert np.abs(log_odds - alone).max() < 1e-9
    assert np.abs(alone[0] - alone[1]).max() > 0.1


@pytest.mark.timeout(300)
@pytest.mark.process
def test_a_killed_worker_changes_no_bit_and_one_process_continues_the_run(tmp_path: Path) -> None:
    whole, killed = together(tmp_path / "whole"), together(tmp_path / "killed")
    in_world(2, "process_groups:run_together", units(whole))
    todo = units(killed)
    with pytest.raises(RuntimeError, match="-9"):
        in_world(2, "process_groups:run_together_until_killed", todo, 36)
    kept = {str(path.relative_to(tmp_path / "killed")) for path in tmp_path.glob("killed/shadows/*/*.json")}
    assert kept == {f"shadows/{todo[0].id}/{shadow}-checkpoint.json" for shadow in (0, 1)}
    # of 24 steps per model, the first model's and the second's first epoch are not repeated
    assert in_world(2, "process_groups:steps_of", todo[:1]) == [16, 16]
    in_world(2, "process_groups:run_together", todo[1:])
    for unit in todo:
        ours, theirs = ((tmp_path / name / unit.log_odds_file).read_bytes() for name in ("killed", "whole"))
        assert ours == theirs
        assert not (tmp_path / "killed/shadows" / unit.id).exists()

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("killed/shadows/*")}
    alone = dataclasses.replace(killed, train=dataclasses.replace(killed.train, num_workers=1))
    assert audit(alone, run_units=InProcess()).status == "COMPLETE"
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.glob("killed/shadows/*")}


def test_ids_of_shadow_models_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    config = together(tmp_path)
    alone = small_config(tmp_path)
    alone = dataclasses.replace(alone, train=dataclasses.replace(alone.train, batch_size=25))
    assert identity(config) == identity(alone)
    assert [unit.id for unit in make_plan(config).shadows] == [unit.id for unit in make_plan(alone).shadows]
    # statistics per process give another model
    own = together(tmp_path, sync_batch_norm=False)
    apart = dataclasses.replace(own, shadows=dataclasses.replace(own.shadows, data_parallel=False))
    assert make_plan(apart).shadows[0].id == make_plan(alone).shadows[0].id
    assert make_plan(own).shadows[0].id != make_plan(alone).shadows[0].id
    assert identity(own)["shadows"]["data_parallel"]


def test_several_processes_do_not_stack() -> None:
    with pytest.raises(ValueError, match=r"shadows\.data_parallel .*shadows\.engine stacked"):
        ShadowConfig(data_parallel=True, engine="stacked")


@pytest.mark.process
def test_one_process_continues_a_model_begun_by_several(tmp_path: Path) -> None:
    config = together(tmp_path)
    (first, _) = units(config)
    with pytest.raises(RuntimeError, match="-9"):
        in_world(2, "process_groups:run_together_until_killed", [first], 36)
    assert in_world(1, "process_groups:steps_of", [first]) == [16]
    assert store.committed(tmp_path, first.marker, id=first.id) is not None
    assert not (tmp_path / "shadows" / first.id).exists()
