"""A forecast's arithmetic against a hand-made example, and a real probe of a small run."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tempfile
import time
from pathlib import Path

import pytest
from damaged_records import rewrite
from in_process import run_command
from small_audit import SMALL_OPTIONS, small_config
from timed_model import TIMING

from ungan_dist import launch, store
from ungan_dist.config.training import ModelConfig
from ungan_dist.errors import ConfigError
from ungan_dist.runs.finished import FINISHED_FILE, find_finished
from ungan_dist.runs.forecast import probe
from ungan_dist.runs.forecast.forecast import make_forecast, num_examples_trained, wall_seconds
from ungan_dist.runs.forecast.outlook import make_outlook, summary_lines
from ungan_dist.runs.forecast.probe import Measurement, Probe, make_probe, measure, prepare_unit, run_probe
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.rehearsal.process import rehearse_in_process
from ungan_dist.runs.targets import SETS
from ungan_dist.runs.units import root_of

MEASURED = Measurement(
    alone=TIMING,
    by_engine=dataclasses.replace(TIMING, train_seconds=0.01),
    memory_bytes=5 << 20,
    device_memory_bytes=0,
    elapsed_seconds=0.0,
)


def finish(plan: Plan) -> None:
    for unit in (*plan.targets, *plan.shadows):
        facts = {"accuracy": dict.fromkeys(SETS, 0.5), "curves": {}, "unlearning_seconds": 1.0}
        store.commit(root_of(unit), unit.marker, id=unit.id, files=dict.fromkeys(unit.files, b""), facts=facts)


def test_units_times_seconds_by_workers(tmp_path: Path) -> None:
    """200 members, 40 of them to forget, 200 non-members, 50 unseen; 3 epochs, 4 shadow models, 2 workers."""
    plan = make_plan(small_config(tmp_path), device="cpu")
    found = make_forecast(plan, lambda _: MEASURED, num_workers=2, seconds=1)
    querying = (400 + 50 + len(plan.split.test)) * 0.001
    expected = {
        "shadow model": 3 * 200 * 0.01 + 400 * 0.001,
        "original": 3 * 200 * 0.02 + querying,
        "retrain": 3 * 160 * 0.02 + querying,
        "ungan": 2 * 1 * 200 * 0.02 + querying,  # an unlearning epoch counts twice
    }
    assert found.unit_seconds == pytest.approx(expected)
    first = (4 * expected["shadow model"] + expected["original"]) / 2
    second = max(expected["retrain"], (expected["retrain"] + expected["ungan"]) / 2)
    assert found.stages["original, shadows"] == pytest.approx(first)
    assert found.stages["unlearning"] == pytest.approx(second)
    assert found.wall_seconds == pytest.approx(first + second, abs=5)
    targets = sum(expected.values()) - expected["shadow model"]
    assert found.device_hours == pytest.approx((4 * expected["shadow model"] + targets) / 3600)
    assert found.more["seeds × 2"].device_hours == pytest.approx(targets / 3600)
    assert found.more["shadow models × 2"].device_hours == pytest.approx(4 * expected["shadow model"] / 3600)
    pixels = plan.source.images.nbytes
    assert found.memory_bytes == (5 << 20) + pixels
    log_odds = 4 * 2 * (4 * 400 + 3 * 450)
    assert found.disk_bytes == pixels + 8 * len(plan.source.labels) + 3 * 1000 + log_odds


@pytest.mark.parametrize("data_parallel", [False, True])
def test_what_several_processes_train_together_takes_turns_and_all_of_them(tmp_path: Path, data_parallel: bool) -> None:
    """Three processes train a model in .015 s an example, where one takes .02 s; two workers train the others."""
    config = small_config(tmp_path)
    config = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, num_workers=3),
        shadows=dataclasses.replace(config.shadows, data_parallel=data_parallel),
    )
    plan = make_plan(config, device="cpu")
    measured = dataclasses.replace(MEASURED, together=dataclasses.replace(TIMING, train_seconds=0.015))
    found = make_forecast(plan, lambda _: measured, num_workers=2, seconds=1)
    querying = (400 + 50 + len(plan.split.test)) * 0.001
    expected = {
        "shadow model": 3 * 200 * (0.015 if data_parallel else 0.01) + 400 * 0.001,
        "original": 3 * 200 * 0.015 + querying,
        "retrain": 3 * 160 * 0.015 + querying,
        "ungan": 2 * 1 * 200 * 0.015 + querying,
    }
    assert found.unit_seconds == pytest.approx(expected)
    shadows, methods = 4 * expected["shadow model"], expected["retrain"] + expected["ungan"]
    stages = {
        "original, shadows": expected["original"] + shadows / (1 if data_parallel else 2),
        "unlearning": methods,
    }
    assert {name: found.stages[name] for name in stages} == pytest.approx(stages)
    core_seconds = 3 * (expected["original"] + methods) + (3 if data_parallel else 1) * shadows
    assert found.device_hours == pytest.approx(core_seconds / 3600)
    assert "one model by all data-parallel processes" in found.measured


def test_plan_counts_every_unlearning_and_says_how_many_are_worth_buying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once, thrice = (
        make_forecast(
            make_plan(small_config(tmp_path, num_unlearnings=number), device="cpu"),
            lambda _: MEASURED,
            num_workers=2,
            seconds=1,
        )
        for number in (1, 3)
    )
    methods = (once.unit_seconds["retrain"] + once.unit_seconds["ungan"]) / 3600
    assert once.device_hours is not None
    assert thrice.device_hours == pytest.approx(once.device_hours + 2 * methods)
    original = once.unit_seconds["original"] / 3600
    assert thrice.more["seeds × 2"].device_hours == pytest.approx(original + 3 * methods)
    # (σ_o² + σ_e² + σ_u² / J)(C_o + J C_u) with the assumed deviations, and examples drawn by each seed
    examples = 2 * 241 / (12 * 40 * 200)
    cost = {number: (0.01**2 * (1 + 1 / number) + examples) * (original + number * methods) for number in (1, 4)}
    assert once.unlearnings[4] == pytest.approx(cost[4] / cost[1])
    monkeypatch.setattr(launch, "forecast", lambda *_, **__: once)
    shown = run_command("plan", "digits", *SMALL_OPTIONS, "--output", tmp_path).stdout
    assert "originals vary by 0.010 AUC, their unlearnings by 0.010 (assumed before a run with several" in shown
    assert "worth buying: 1 unlearning of each original, then more seeds; the same interval costs with 2: +" in shown


def test_wall_time_is_at_least_the_longest_unit() -> None:
    assert wall_seconds([], 3) == 0
    assert wall_seconds([2.0] * 8, 4) == 4
    assert wall_seconds([8.0, 1.0, 1.0], 5) == 8


def test_every_method_trains_on_some_examples_but_the_original_that_exists(tmp_path: Path) -> None:
    methods = ("original", "retrain", "fine_tuning", "random_labels", "neg_grads", "adv_neg_grads", "cf_k", "unsir")
    plan = make_plan(small_config(tmp_path, methods=(*methods, "scrub", "ungan")), device="cpu")
    counts = {unit.method: num_examples_trained(unit) for unit in plan.targets}
    assert all(count > 0 for count in counts.values())
    assert counts["fine_tuning"] == 2 * 10 * 200
    assert counts["unsir"] == 2 * (2 + 1) * 200
    assert counts["scrub"] == 2 * 10 * 200  # the passes of small_scale over the retain set


def test_a_finished_run_needs_no_probe(tmp_path: Path) -> None:
    def fail(_: Probe) -> Measurement:
        raise AssertionError

    plan = make_plan(small_config(tmp_path), device="cpu")
    finish(plan)
    found = make_forecast(plan, fail, num_workers=2, seconds=1)
    assert found.outlook.num_models_done == found.outlook.num_models == 7
    assert (found.wall_seconds, found.device_hours, found.disk_bytes, found.more) == (0, 0, 0, {})
    done = run_command("plan", "digits", *SMALL_OPTIONS, "--output", tmp_path)
    assert "nothing is left to compute" in done.stdout
    assert "0 to train or unlearn, 7 done" in done.stdout
    assert "shadow models × 2" in done.stdout


def test_a_probe_carries_a_few_batches(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=4))
    plan = make_plan(config, device="cpu")
    probe = make_probe(plan, 1.0)
    assert len(probe.source.images) == len(probe.unit.pool) == 64
    assert (probe.source.labels == plan.source.labels[plan.split.pool[:64]]).all()


@pytest.mark.parametrize("work", [None, {}, {"num_models": 7, "num_units": 5, "sizes": {}}, {"num_models": 7}])
def test_without_the_amount_of_work_in_its_record_a_finished_run_is_planned_anew(
    work: dict[str, object] | None, output: Path
) -> None:
    rewrite(output / "run" / FINISHED_FILE, work=work)
    assert find_finished(small_config(output)) is not None
    assert launch.find_finished_outlook(small_config(output)) is None
    done = run_command("plan", "digits", *SMALL_OPTIONS, "--output", output)
    assert "nothing is left to compute" in done.stdout


@pytest.mark.parametrize("more", [(), ("--no-probe",)])
def test_a_finished_run_is_answered_from_its_record(
    more: tuple[str, ...], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(output)
    whole = make_outlook(make_plan(config))
    monkeypatch.delattr("ungan_dist.runs.plan.load_source")
    assert (found := launch.find_finished_outlook(config)) is not None
    assert found == (whole, "cpu")
    start = time.perf_counter()
    done = run_command("plan", "digits", *SMALL_OPTIONS, *more, "--output", output)
    assert time.perf_counter() - start < 5  # everything is imported already; the rest is slack
    assert done.returncode == 0, done.stderr
    assert "0 to train or unlearn, 7 done" in done.stdout
    assert ("nothing is left to compute" in done.stdout) == (not more)


def test_where_nothing_was_timed_no_figure_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "run_probe", lambda _: None)
    done = run_command("plan", "digits", *SMALL_OPTIONS, "--seconds", "2", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cost         not known" in done.stdout
    assert "measured     nothing: training on 4 examples and a query of 8 took over 2 s" in done.stdout
    assert not any(
        line.split()[:1] in (["wall"], ["core-hours"], ["memory"], ["disk"]) for line in done.stdout.splitlines()
    )
    assert "shadow models × 2" in done.stdout


@pytest.mark.process
def test_a_plan_ends_at_its_limit_whatever_the_model_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One forward pass takes 1000 s: both the rehearsal and the probe are ended."""
    monkeypatch.setattr("in_process.rehearse_here", rehearse_in_process)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    options = [*SMALL_OPTIONS, "--model.factory", "misbehaving_models:Hanging", "--execution.progress", "json"]
    start = time.monotonic()
    done = run_command("plan", "digits", *options, "--seconds", "1", "--json", "--output", tmp_path / "runs")
    assert time.monotonic() - start < 100  # two processes start, on a busy machine
    assert done.returncode == 0, done.stderr
    began, cut = map(json.loads, done.stderr.splitlines())
    assert began["stage"] == cut["stage"] == "rehearsal"
    assert cut["note"] == "cut short after 0.5 s, at: evaluating examples. `run` rehearses every step"
    found = json.loads(done.stdout)
    assert found["measured"].startswith("nothing")
    assert [found[name] for name in ("wall_seconds", "device_hours", "memory_bytes", "disk_bytes")] == [None] * 4
    assert found["unit_seconds"] == found["stages"] == found["more"] == {}
    assert not list(scratch.iterdir())


@pytest.mark.process
def test_a_slow_model_is_estimated_from_what_could_be_timed(tmp_path: Path) -> None:
    """Each image takes 0.02 s in every pass, whatever the machine does; 3 epochs of 200 examples, 2 views."""
    config = small_config(tmp_path, model=ModelConfig(factory="misbehaving_models:SlowByImage"))
    plan = make_plan(config)
    found = make_forecast(plan, run_probe, num_workers=2, seconds=3.0)
    queried = 400 + len(plan.split.unseen) + len(plan.split.test)
    assert found.unit_seconds["original"] == pytest.approx(0.02 * (3 * 200 + 2 * queried), rel=0.3)
    assert found.unit_seconds["shadow model"] == pytest.approx(0.02 * (3 * 200 + 2 * 400), rel=0.3)
    assert found.probe_seconds < 3.5
    assert re.fullmatch(r"\d epoch\(s\) of one model, (4|16|64) examples in batches of .*", found.measured)


@pytest.mark.process
def test_a_real_probe_gives_positive_finite_numbers_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, output = tmp_path / "scratch", tmp_path / "runs"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torch"))
    done = run_command("plan", "digits", *SMALL_OPTIONS, "--seconds", "1", "--json", "--output", output)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found["unit_seconds"]) == {"shadow model", "original", "retrain", "ungan"}
    numbers = [*found["unit_seconds"].values(), *found["stages"].values()]
    numbers += [found[name] for name in ("wall_seconds", "device_hours", "memory_bytes", "disk_bytes")]
    assert all(math.isfinite(number) and number > 0 for number in numbers), found
    assert found["probe_seconds"] < 60
    assert not list(scratch.iterdir())
    assert not output.exists()


def test_a_plan_without_probe_shows_models_and_power(tmp_path: Path) -> None:
    done = run_command("plan", "digits", *SMALL_OPTIONS, "--no-probe", "--output", tmp_path)
    assert "7 to train or unlearn, 0 done" in done.stdout
    assert "wall time" not in done.stdout
    assert "shadow models × 2" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_log_starts_with_the_amount_of_work_and_the_power(tmp_path: Path) -> None:
    work, power = summary_lines(make_outlook(make_plan(small_config(tmp_path))))
    assert work.startswith("7 models (4 shadow), 0 done; ")
    assert "recognises even a perfect method as equivalent only within ±" in power


def test_a_probe_that_fails_is_reported_with_its_reason(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    train = dataclasses.replace(config.train, learning_rate=1e30)
    plan = make_plan(dataclasses.replace(config, train=train))

    def measure_here(probe: Probe) -> Measurement:
        return measure(prepare_unit(probe, tmp_path / "probe"), probe.seconds)

    with pytest.raises(ConfigError, match=r"probe failed.*not finite"):
        make_forecast(plan, measure_here, num_workers=1, seconds=1.0)


def test_an_output_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    config = dataclasses.replace(small_config(tmp_path), output="s3://bucket/runs")
    with pytest.raises(ConfigError, match="s3://bucket/runs is not one: set --output to a folder"):
        launch.forecast(config, seconds=1.0)


def test_processes_that_share_batches_need_a_cluster(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    train = dataclasses.replace(config.train, num_workers=2)
    config = dataclasses.replace(config, train=train)
    with pytest.raises(ConfigError, match=r"train\.num_workers 2.*--cluster auto"):
        launch.forecast(config, seconds=1)
