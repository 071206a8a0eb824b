"""How the kernels of a run are chosen: self-check, its process and cache, the option, the record and the unit ids."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import failing_checks
import pytest
import torch
from small_audit import small_config

from ungan_dist.config.execution import ExecutionConfig
from ungan_dist.config.methods import UnGANConfig
from ungan_dist.errors import ConfigError
from ungan_dist.kernels.self_check import Verdict
from ungan_dist.kernels.uses import KernelUse
from ungan_dist.runs import units
from ungan_dist.runs.kernel_choice import cache, choice, verdict_folder
from ungan_dist.runs.kernel_choice.judging import Judged, JudgeTask, judge_here
from ungan_dist.runs.operations import describe_kernels, fused_operations
from ungan_dist.runs.plan import Plan, make_plan, reopen_plan
from ungan_dist.runs.record import read_run, write_record
from ungan_dist.runs.upkeep.doctor import check_kernels
from ungan_dist.training.world import SINGLE_PROCESS

H200, A100 = "NVIDIA H200, sm_90", "NVIDIA A100, sm_80"
FUSED = Verdict(choice="fused", reason="right, and 2.00 ×", error=1e-7, budget=1e-5, ratio=2.0, interval=(1.9, 2.1))
SLOW = dataclasses.replace(FUSED, choice="reference", reason="not above 1.1", ratio=1.0, interval=(0.9, 1.1))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def gpu_plan(output: Path, **changes: Any) -> Plan:
    return make_plan(small_config(output, **changes), device="cuda")


class Workers:
    """Workers with GPUs of some types, on which some operations are found faster fused."""

    def __init__(self, **fused: tuple[str, ...]) -> None:
        self.fused = fused
        self.tasks: list[JudgeTask] = []

    def __call__(self, _: object, task: JudgeTask) -> list[Judged]:
        self.tasks.append(task)
        return [
            Judged(
                device={"h200": H200, "a100": A100}[name],
                verdicts=tuple(FUSED if use.operation in fused else SLOW for use in task.uses),
            )
            for name, fused in self.fused.items()
        ]


def ids(plan: Plan) -> dict[str, str]:
    return {unit.title: unit.id for unit in (*plan.targets, *plan.shadows)}


def test_an_id_holds_only_the_kernels_that_its_unit_uses(tmp_path: Path) -> None:
    """A verdict on one operation renames the units that use it, and no other."""
    before = gpu_plan(tmp_path)
    critic = choice.settle_kernels(before, Workers(h200=("critic_loss",)))
    changed = {title for title, id in ids(critic).items() if id != ids(before)[title]}
    assert changed == {"ungan, seed 0"}
    assert {unit.title: unit.fused for unit in critic.targets if unit.fused} == {"ungan, seed 0": ("critic_loss",)}
    queries = choice.settle_kernels(before, Workers(h200=("log_odds",)))
    assert all(id != ids(before)[title] for title, id in ids(queries).items())
    none = choice.settle_kernels(before, Workers(h200=()))
    assert ids(none) == ids(before)
    assert none.record.run_hash == before.record.run_hash


def test_the_whole_run_is_judged_at_its_own_shapes(tmp_path: Path) -> None:
    workers = Workers(h200=())
    choice.settle_kernels(gpu_plan(tmp_path), workers)
    (task,) = workers.tasks
    shapes = {use.operation: dict(use.shapes) for use in task.uses}
    assert set(shapes) == {"critic_loss", "critic_sgd_step", "gather_augmented", "generator_loss", "log_odds"}
    assert shapes["generator_loss"] == {"batch": 64, "features": 20, "widths": [8, 8, 8]}
    assert shapes["gather_augmented"]["height"] == 8
    assert shapes["log_odds"]["classes"] == 10


def test_the_record_keeps_the_verdict_and_nothing_is_judged_again(tmp_path: Path) -> None:
    first = choice.settle_kernels(gpu_plan(tmp_path), Workers(h200=("critic_loss", "log_odds")))
    write_record(first.folder, first.record)

    def judge_again(*_: object) -> list[Judged]:
        raise AssertionError("a run that exists was judged again")

    again = choice.settle_kernels(gpu_plan(tmp_path), judge_again)
    assert ids(again) == ids(first)
    write_record(again.folder, again.record)  # no difference is refused
    reopened = reopen_plan(read_run(first.folder))
    assert ids(reopened) == ids(first)
    assert reopened.record.resolved["kernels"]["choices"]["critic_loss"]["interval"] == [1.9, 2.1]
    described = describe_kernels(reopened.record)
    assert described["critic_loss"] == "fused: right, and 2.00 ×"
    assert described["generator_loss"] == "reference: not above 1.1"


def test_a_run_from_before_keeps_its_ids_and_its_references(tmp_path: Path) -> None:
    """Its record has no verdict."""
    before = gpu_plan(tmp_path)
    write_record(before.folder, before.record)
    again = choice.settle_kernels(gpu_plan(tmp_path), Workers(h200=("log_odds",)))
    assert ids(again) == ids(before)
    assert "kernels" not in again.record.resolved
    assert {unit.fused for unit in again.shadows} == {()}


@pytest.mark.parametrize(
    ("fused", "asked"), [(("log_odds",), "reference"), (("log_odds",), "fused"), ((), "fused")], ids=str
)
def test_another_option_than_that_of_the_run_is_refused(tmp_path: Path, fused: tuple[str, ...], asked: Any) -> None:
    plan = choice.settle_kernels(gpu_plan(tmp_path), Workers(h200=fused))
    write_record(plan.folder, plan.record)
    other = gpu_plan(tmp_path, execution=ExecutionConfig(run_name="run", kernels=asked))
    with pytest.raises(ConfigError, match=f"cannot go on with --execution.kernels {asked}"):
        choice.settle_kernels(other, Workers(h200=fused))


def test_gpus_that_disagree_run_the_reference(tmp_path: Path) -> None:
    both = choice.settle_kernels(gpu_plan(tmp_path), Workers(h200=("log_odds",), a100=("log_odds",)))
    assert fused_operations(both.record.resolved) == ("log_odds",)
    assert both.shadows[0].judged_on == (A100, H200)
    split = choice.settle_kernels(gpu_plan(tmp_path), Workers(h200=("log_odds",), a100=()))
    assert fused_operations(split.record.resolved) == ()
    assert describe_kernels(split.record)["log_odds"] == f"reference: the GPUs disagree; {A100}: not above 1.1"


def test_a_worker_with_another_gpu_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = choice.settle_kernels(gpu_plan(tmp_path), Workers(h200=("log_odds",)))
    monkeypatch.setattr(units, "describe_gpu", lambda _: A100)
    failed = units.execute(plan.shadows[0])
    assert isinstance(failed, units.Failed)
    assert f"this worker has {A100}, and the kernels of the run were checked on {H200}" in failed.error
    assert not failed.is_final  # another worker may have the right one
    unit = choice.settle_kernels(gpu_plan(tmp_path), Workers(h200=("critic_loss",))).shadows[0]
    units._refuse_other_gpu(unit, SINGLE_PROCESS)  # pyright: ignore[reportPrivateUsage] - it uses none of them


def test_fused_names_the_obstacle_before_anything_is_trained(tmp_path: Path) -> None:
    asked = ExecutionConfig(run_name="run", kernels="fused")
    plan = gpu_plan(tmp_path, execution=asked, ungan=UnGANConfig(penalty_of="jacobian"))
    with pytest.raises(ConfigError, match=r"critic_loss of ungan: .*'jacobian'; use --execution.kernels auto"):
        choice.settle_kernels(plan, Workers(h200=()))
    broken = Verdict(choice="reference", reason="the process crashed (SIGSEGV) in the self-check of log_odds")
    with pytest.raises(ConfigError, match="cannot run critic_loss: the process crashed"):
        choice.settle_kernels(
            gpu_plan(tmp_path, execution=asked),
            lambda _, task: [Judged(device=H200, verdicts=(broken,) * len(task.uses))],
        )
    forced = choice.settle_kernels(gpu_plan(tmp_path, execution=asked), Workers(h200=()))
    assert len(fused_operations(forced.record.resolved)) == 5
    assert describe_kernels(forced.record)["log_odds"] == "fused: asked for; the self-check found: not above 1.1"


def test_reference_is_never_judged(tmp_path: Path) -> None:
    workers = Workers(h200=("log_odds",))
    asked = ExecutionConfig(run_name="run", kernels="reference")
    plan = choice.settle_kernels(gpu_plan(tmp_path, execution=asked), workers)
    assert not workers.tasks
    assert set(describe_kernels(plan.record).values()) == {"reference: asked for"}
    assert ids(plan) == ids(gpu_plan(tmp_path))


LOG_ODDS = KernelUse(operation="log_odds", shapes={"models": 1, "batch": 5, "classes": 3})


@pytest.mark.process
def test_a_crash_a_hang_and_a_missing_compiler_are_the_reason() -> None:
    """The next operation is judged in a new process. Nothing of this is cached, since it may be mended."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    uses = tuple(dataclasses.replace(LOG_ODDS, shapes=LOG_ODDS.shapes | {"batch": batch}) for batch in (5, 6, 7, 8))
    (judged,) = judge_here(JudgeTask(uses=uses, device=device, limit_s=15.0, judge=failing_checks.judge_with_faults))
    crashed, hung, without_compiler, whole = judged.verdicts
    assert {verdict.choice for verdict in judged.verdicts[:3]} == {"reference"}
    assert "crashed (SIGSEGV) in the self-check of log_odds" in crashed.reason
    assert "no result within 15 s" in hung.reason
    assert "ImportError: Failed to find C compiler" in without_compiler.reason
    assert whole.ratio is not None
    (file,) = verdict_folder().glob("*.json")
    assert "log_odds on the CPU" in check_kernels(Path())
    # a cached verdict is returned, and its operation is not judged again
    altered = dataclasses.replace(whole, reason="cached")
    key = cache.make_key(uses[3], cache.DeviceFacts(kind=judged.device, driver=""))
    if device == "cpu":
        cache.write_verdict(key, altered)
        (again,) = judge_here(JudgeTask(uses=uses[3:], device=device))
        assert again.verdicts == (altered,)
    file.write_bytes(file.read_bytes()[:-20])
    assert check_kernels(Path()).startswith("none judged yet")


@pytest.mark.process
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_worker_whose_torch_finds_no_gpu_is_the_reason(tmp_path: Path) -> None:
    plan = choice.settle_kernels(gpu_plan(tmp_path))
    expected = "reference: torch finds no GPU on the machine of the self-check"
    assert set(describe_kernels(plan.record).values()) == {expected}
    asked = ExecutionConfig(kernels="fused", run_name="fused")
    with pytest.raises(ConfigError, match="torch finds no GPU"):
        choice.settle_kernels(gpu_plan(tmp_path, execution=asked))


def test_a_verdict_is_cached_under_everything_it_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = cache.DeviceFacts(kind=H200, driver="580.1")
    key = cache.make_key(LOG_ODDS, facts)
    assert cache.read_verdict(key) is None
    cache.write_verdict(key, FUSED)
    assert cache.read_verdict(key) == FUSED
    others = [
        cache.make_key(dataclasses.replace(LOG_ODDS, shapes=LOG_ODDS.shapes | {"batch": 6}), facts),
        cache.make_key(LOG_ODDS, dataclasses.replace(facts, kind=A100)),
        cache.make_key(LOG_ODDS, dataclasses.replace(facts, driver="590.2")),
    ]
    for name, value in (("_version", lambda _: "3.9"), ("table_hash", lambda _: ""), ("_hash_sources", lambda: "")):
        with monkeypatch.context() as patch:
            patch.setattr(cache, name, value)
            others.append(cache.make_key(LOG_ODDS, facts))
    assert len({json.dumps(other, sort_keys=True) for other in (key, *others)}) == 7
    assert all(cache.read_verdict(other) is None for other in others)
    (file,) = verdict_folder().glob("*.json")
    content = file.read_text()
    file.write_text(content.replace("1.9", "9.9"))
    assert cache.read_verdict(key) is None  # a changed digit
    file.write_text(content)
    assert cache.read_verdict(key) == FUSED


@pytest.mark.parametrize("fault", ["no home", "a file in its place"])
def test_without_a_cache_folder_each_run_judges_again(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "no home":  # a container's user id without an entry, and no HOME
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
        with pytest.raises(FileNotFoundError, match="set HOME or XDG_CACHE_HOME"):
            verdict_folder()
        assert check_kernels(tmp_path).startswith("none kept, as this user has no home folder")
    else:
        (tmp_path / "cache").write_text("")
    key = cache.make_key(LOG_ODDS, cache.DeviceFacts(kind=H200, driver="580.1"))
    cache.write_verdict(key, FUSED)
    assert cache.read_verdict(key) is None
