"""U-LiRA in a real run: shadow models that unlearn, interrupted, extended, verified, purged, and a leak that hides."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hiding_models import hide
from in_process import InProcess, assert_refused, rehearse_here, run_command
from PIL import Image
from small_audit import SMALL_OPTIONS, small_config
from timed_model import TIMING

from ungan_dist import store
from ungan_dist.attack.estimates import KLOM
from ungan_dist.attack.evidence import Report, ULiRA
from ungan_dist.attack.klom import measure_klom
from ungan_dist.attack.metrics import auc
from ungan_dist.attack.ulira import score_left_out
from ungan_dist.config.attack import AttackConfig
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import SourceConfig, SplitConfig
from ungan_dist.config.identity import run_hash
from ungan_dist.config.training import ModelConfig, ShadowConfig, TrainConfig
from ungan_dist.methods import fine_tuning
from ungan_dist.report import render
from ungan_dist.report.export import export_table
from ungan_dist.runs.forecast import probe
from ungan_dist.runs.forecast.probe import Measurement
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import Plan, make_plan, reopen_plan
from ungan_dist.runs.progress import silent
from ungan_dist.runs.record import read_run
from ungan_dist.runs.rehearsal import process
from ungan_dist.runs.reporting import build_report
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.storage.mirror import connect
from ungan_dist.runs.storage.workers import ArrivedFrom, ExecuteThere
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import Done, Failed, Unit, execute
from ungan_dist.runs.unlearned_shadows import UnlearnedShadowUnit, draw_shadow_sets

pytestmark = pytest.mark.usefixtures("without_figures")
METHODS = ("retrain", "ungan")
UNLEARNED = "unlearned_shadows/0"


def with_ulira(output: Path, num_models: int = 6) -> AuditConfig:
    """The small audit with two more shadow models, whose shadow models unlearn by two methods."""
    config = small_config(output)
    return replace(
        config,
        shadows=replace(config.shadows, num_models=num_models),
        attack=replace(config.attack, unlearned_shadows=METHODS),
    )


def kinds(units: list[Unit]) -> list[tuple[str, int]]:
    """Return the kind of each unit and its first shadow model."""
    names = {ShadowUnit: "shadows", TargetUnit: "target", UnlearnedShadowUnit: "unlearned"}
    found: list[tuple[str, int]] = []
    for unit in units:
        name = "weights" if isinstance(unit, ShadowUnit) and unit.weights_only else names[type(unit)]
        found.append((name, 0 if isinstance(unit, TargetUnit) else unit.shadows[0]))
    return found


def read_unlearned(output: Path) -> dict[str, bytes]:
    """Return the files of the unlearned shadow models by name, without their markers, which hold times."""
    run = output / "run"
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(run.glob(f"{UNLEARNED}/*/*.npy"))}


@pytest.fixture(scope="module")
def attacked(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished small audit, which kept no weights, extended by two shadow models and U-LiRA."""
    output = shutil.copytree(finished_run, tmp_path_factory.mktemp("ulira") / "out")
    before = {path: path.read_bytes() for path in (output / "shadows").iterdir()}
    runner = InProcess()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        report = audit(with_ulira(output), run_units=runner)
    assert report.status == "COMPLETE"
    assert kinds(runner.units) == [
        ("shadows", 4),
        *(("weights", first) for first in (0, 2)),  # the third pair kept its own
        *(("unlearned", first) for _ in METHODS for first in (0, 2, 4)),
    ]
    assert {path: path.read_bytes() for path in before} == before, "no result of LiRA changes"
    return output


@pytest.fixture
def copied(attacked: Path, tmp_path: Path) -> Path:
    return shutil.copytree(attacked, tmp_path / "out")


def test_the_run_and_its_shadow_models_keep_their_hashes(tmp_path: Path) -> None:
    config = with_ulira(tmp_path)
    without = replace(config, attack=replace(config.attack, unlearned_shadows=()))
    assert run_hash(config, "data") == run_hash(without, "data")
    ids = [[unit.id for unit in (*plan.targets, *plan.shadows)] for plan in map(make_plan, (config, without))]
    assert ids[0] == ids[1]


def test_each_model_forgets_what_it_had_filled_up_to_the_forget_set(attacked: Path) -> None:
    plan = make_plan(with_ulira(attacked))
    for unit in plan.unlearned_shadows:
        for shadow in unit.shadows:
            draw, forget = unit.as_target(shadow).draw, plan.draws[0].forget
            members = np.flatnonzero(plan.membership[shadow])
            assert len(draw.forget) == len(forget)
            assert set(forget) & set(members) <= set(draw.forget) <= set(members)
            assert sorted([*draw.forget, *draw.retain]) == members.tolist()
    other = draw_shadow_sets(plan.draws[0].forget, plan.membership[0], seed=1, shadow=0)
    assert set(other.forget) != set(plan.unlearned_shadows[0].as_target(0).draw.forget)


def read_report(output: Path) -> dict[str, Any]:
    return json.loads((output / "run/table.json").read_text())


def rows_of(output: Path) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in read_report(output)["rows"]}


def fleet_of(plan: Plan, method: str) -> np.ndarray:
    """Read a method's unlearned shadow models, or for the original the untouched ones on the forget set."""
    if method == "original":
        shadows = [store.read_array(plan.folder.parent / unit.log_odds_file) for unit in plan.shadows]
        return np.concatenate(shadows)[:, plan.draws[0].forget]
    names = [f"{UNLEARNED}/{method}/{first}.npy" for first in range(0, len(plan.membership), 2)]
    return np.concatenate([store.read_array(plan.folder / name) for name in names])


def test_the_table_has_the_attack_on_the_stored_log_odds(attacked: Path) -> None:
    plan, rows = make_plan(with_ulira(attacked)), rows_of(attacked)
    had = plan.membership[:, plan.draws[0].forget]
    for method in ("original", *METHODS):
        scores = score_left_out(fleet_of(plan, method), had)
        each = [auc(one[mask], one[~mask]) for one, mask in zip(scores, had, strict=True)]
        assert rows[method]["ulira"]["auc"]["mean"] == pytest.approx(np.mean(each), abs=1e-6)
        assert rows[method]["ulira"]["num_shadows"] == 6
    table = read_report(attacked)
    assert not any("U-LiRA" in text for text in table["not_tested"])
    assert "U-LiRA AUC" in (attacked / "run/table.md").read_text()
    assert "U-LiRA" in (attacked / "run/report.html").read_text()
    timings = json.loads((attacked / "run/timings.json").read_text())
    assert timings["unlearned_shadows"]["ungan"] > 0


def test_it_is_verified_shown_planned_and_listed(attacked: Path) -> None:
    run = attacked / "run"
    for command in (["verify", run], ["verify", "--quick", run]):
        found = run_command(*command)
        assert (found.returncode, found.stdout.strip()) == (0, "COMPLETE"), found.stderr
    shown = run_command("report", run)
    assert "U-LiRA" in shown.stdout
    options = [*SMALL_OPTIONS, "--shadows.num-models", "8", "--output", attacked, "--no-probe"]
    planned = run_command("plan", "digits", *options, "--attack.unlearned-shadows", "all")
    assert "4 of these are shadow models to unlearn, 12 done" in planned.stdout, planned.stderr


def test_an_interrupted_attack_is_continued_to_the_same_bits(
    attacked: Path, finished_run: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(finished_run, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        audit(with_ulira(output), run_units=InProcess(interrupted_after=5))
    assert read_report(output)["status"] == "PARTIAL"
    assert "retrain on shadow models 4–5, seed 0" in read_report(output)["missing"]
    runner = InProcess()
    audit(with_ulira(output), run_units=runner)
    assert kinds(runner.units) == [("unlearned", first) for first in (4, 0, 2, 4)]
    assert read_unlearned(output) == read_unlearned(attacked)
    assert (output / "run/table.json").read_bytes() == (attacked / "run/table.json").read_bytes()


def test_more_shadow_models_extend_it(copied: Path) -> None:
    before, runner = read_unlearned(copied), InProcess()
    audit(with_ulira(copied, num_models=8), run_units=runner)
    assert kinds(runner.units) == [("shadows", 6), ("unlearned", 6), ("unlearned", 6)]
    assert {name: content for name, content in read_unlearned(copied).items() if name in before} == before
    assert rows_of(copied)["ungan"]["ulira"]["num_shadows"] == 8
    assert len(list((copied / "run/reports").iterdir())) == 2  # without U-LiRA, and with six shadow models


@pytest.mark.parametrize("first", [0, 4])
def test_changed_weights_are_refused_and_trained_again(copied: Path, first: int) -> None:
    """Of shadow models that were trained again for their weights, and of those that kept them at once."""
    [path] = (copied / "shadows").glob(f"*/{first}.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    plan = make_plan(with_ulira(copied))
    before = read_unlearned(copied)
    unit = next(unit for unit in plan.unlearned_shadows if unit.shadows[0] == first)
    (plan.folder / unit.marker).unlink()
    outcome = execute(unit)
    assert outcome.kind == "error"
    assert "differs from the weights that were committed" in outcome.error
    runner = InProcess()
    audit(with_ulira(copied), run_units=runner)
    assert kinds(runner.units) == [("shadows" if first else "weights", first), ("unlearned", first)]
    assert read_unlearned(copied) == before


def test_an_altered_result_is_corrupt(copied: Path) -> None:
    path = next((copied / "run").glob(f"{UNLEARNED}/ungan/*.npy"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    for option in ([], ["--quick"]):
        found = run_command("verify", *option, copied / "run")
        assert found.stdout.strip() == "CORRUPT"
        assert "unlearned_shadows" in found.stderr


def test_a_purge_removes_the_log_odds_and_the_weights(copied: Path) -> None:
    assert list(copied.glob("shadows/*/*.safetensors"))
    assert "unlearned_shadows/*/*/*.npy" in (copied / "run/table.md").read_text().replace("\\", "")
    found = run_command("purge", copied / "run")
    assert found.returncode == 0, found.stderr
    assert not (copied / "run/unlearned_shadows").exists()
    assert not list(copied.glob("shadows/**/*"))
    assert (copied / "run/table.json").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--attack.unlearned-shadows", "scrubb"], ["scrubb", "known: retrain, ungan"]),
        (["--attack.unlearned-shadows", "original"], ["original"]),
        (["--attack.unlearned-shadows", "ungan,ungan"], ["each once"]),
        (["--attack.unlearned-shadows", "all", "--shadows.num-models", "4"], ["at least 6", "4"]),
        (["--attack.unlearned-shadows", "all", "--attack.unlearned-seeds", "2"], ["exceeds num_seeds 1"]),
        (["--attack.unlearned-seeds", "2"], ["--attack.unlearned-shadows"]),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: list[str], words: list[str]) -> None:
    shadows = ["--shadows.num-models", "8", "--output", tmp_path]
    assert_refused(run_command("run", "digits", *SMALL_OPTIONS, *shadows, *options), *words)
    assert not list(tmp_path.iterdir())


def write_noise(path: Path, num_pictures: int) -> None:
    """Write noise of 8 × 8 pixels in three classes, of which a brighter line tells a little."""
    rng = np.random.default_rng(0)
    pictures: list[dict[str, object]] = []
    for number in range(num_pictures):
        pixels = rng.integers(0, 256, (8, 8), np.uint8)
        pixels[number % 3] = np.clip(pixels[number % 3].astype(int) + 60, 0, 255)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        pictures.append({"bytes": file.getvalue(), "path": None})
    pq.write_table(pa.table({"image": pictures, "label": [number % 3 for number in range(num_pictures)]}), path)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """An audit of a method that lowers all forget log-odds by one constant, in the place of Fine-Tuning."""
    folder = tmp_path_factory.mktemp("hidden")
    write_noise(folder / "noise.parquet", 820)
    config = AuditConfig(
        name="custom",
        source=SourceConfig(kind="parquet", path=str(folder / "noise.parquet")),
        split=SplitConfig(train=300, shadow_pool=300, unseen=20, forget_fraction=0.5),
        model=ModelConfig(factory="hiding_models:build"),
        train=TrainConfig(epochs=20, batch_size=32, learning_rate=0.05),
        shadows=ShadowConfig(num_models=16, unit_size=2, queries=("plain",)),
        attack=AttackConfig(delta=0.08, num_resamples=100, fnr=0.1, utility_margin=0.3, unlearned_shadows=("all",)),
        methods=("original", "retrain", "fine_tuning"),
        output=str(folder / "out"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "rehearse_in_process", rehearse_here)
        patch.setattr("ungan_dist.training.probing.run_in_process", lambda *_, **__: None)
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        patch.setattr(fine_tuning, "fine_tuning", hide)
        return audit(config, run_units=InProcess())


def test_a_method_that_hides_from_lira_is_found(hidden: Report) -> None:
    rows = {row.method: row for row in hidden.rows}
    hiding, retrain = rows["fine_tuning"], rows["retrain"]
    assert hiding.verdict.outcome == "equivalent"
    assert isinstance(hiding.ulira, ULiRA)
    assert isinstance(retrain.ulira, ULiRA)
    assert hiding.ulira.auc.low > 0.5 + 0.08
    assert retrain.ulira.auc.low < 0.5 < retrain.ulira.auc.high
    assert hiding.hidden_leak
    assert not retrain.hidden_leak


def test_every_place_of_the_verdict_has_the_warning(hidden: Report) -> None:
    assert hidden.folder is not None
    files = {name: content.decode() for name, content in render(hidden).items()}
    warning = "hides a leak that U-LiRA finds"
    for name in ("table.md", "report.html", "table.json"):
        assert warning in files[name], name
    mark = "equivalent, but U-LiRA finds a leak"
    assert files["table.md"].count(mark) == 2  # in the table and in the conclusions
    assert files["report.html"].count(mark) == 5  # also in the summary, the method's section and its values
    assert json.loads(files["table.json"])["verdicts"] == {mark: 1}
    shown = run_command("report", hidden.folder).stdout
    assert "Caveat: Fine-Tuning hides a leak" in " ".join(shown.split())
    assert mark in repr(hidden)
    assert mark in hidden._repr_html_()
    assert warning in hidden._repr_html_()
    listed = run_command("runs", "--json", hidden.folder.parent).stdout
    assert mark in listed


def test_plan_shows_the_cost_in_trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six models by two methods: 3 epochs of Retrain on 160 examples, and one of UnGAN on 200, which counts twice."""
    measured = Measurement(alone=TIMING, memory_bytes=0, device_memory_bytes=0, elapsed_seconds=0.0)
    monkeypatch.setattr(probe, "run_probe", lambda _: measured)
    options = [*SMALL_OPTIONS, "--shadows.num-models", "6", "--attack.unlearned-shadows", "all", "--output", tmp_path]
    expected = 6 * ((3 * 160 + 2 * 200) * 0.02 + 2 * 40 * 0.001)
    shadow = 3 * 200 * 0.02 + 400 * 0.001
    shown = run_command("plan", "digits", *options).stdout
    assert "12 of these are shadow models to unlearn, 0 done" in shown
    assert f"as much as {expected / shadow:.0f} trainings of a shadow model" in shown
    found = json.loads(run_command("plan", "digits", *options, "--json").stdout)
    assert found["unlearned_seconds"] == pytest.approx(expected)
    assert found["stages"]["unlearned shadows"] == pytest.approx(expected)  # one worker


def test_a_machine_that_shares_no_folder_unlearns_from_fetched_weights(attacked: Path, tmp_path: Path) -> None:
    there = shutil.copytree(attacked, tmp_path / "there")
    before = read_unlearned(there)
    for first in (0, 4):  # of models trained again for their weights, and of those that kept them
        (there / "run" / UNLEARNED / f"ungan/{first}.json").unlink()
    url = f"file://{there}"
    driver = connect(url, folder=tmp_path / "driver")
    worker = ExecuteThere(url=url, cache=str(tmp_path / "worker"))
    arrived, done = ArrivedFrom(mirror=driver), list[Unit]()

    def run_units(units: Sequence[Unit]) -> Iterator[Done | Failed]:
        for unit in units:
            outcome = worker(unit)
            assert isinstance(outcome, Done), outcome.traceback
            assert arrived(unit)
            done.append(unit)
            yield outcome

    report = audit(with_ulira(driver.folder), run_units=run_units, mirror=driver)
    assert report.status == "COMPLETE"
    assert kinds(done) == [("unlearned", 0), ("unlearned", 4)]
    assert read_unlearned(there) == read_unlearned(driver.folder) == before
    assert (there / "run/table.json").read_bytes() == (attacked / "run/table.json").read_bytes()


@pytest.mark.process
@pytest.mark.timeout(400)  # two whole runs in processes of their own
def test_a_killed_attack_is_continued_to_the_same_bits(attacked: Path, finished_run: Path, tmp_path: Path) -> None:
    output = shutil.copytree(finished_run, tmp_path / "out")
    options = [*SMALL_OPTIONS, "--shadows.num-models", "6", "--attack.unlearned-shadows", ",".join(METHODS)]
    command = [sys.executable, "-m", "ungan_dist", "run", "digits", *options, "--output", str(output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not list(output.glob(f"run/{UNLEARNED}/*/*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    done = read_unlearned(output)
    assert 0 < len(done) < 6, "killed between the first and the last unit"
    again = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert again.returncode == 0, again.stderr
    assert read_unlearned(output) == read_unlearned(attacked)
    assert (output / "run/table.json").read_bytes() == (attacked / "run/table.json").read_bytes()


def test_klom_is_measured_on_the_stored_log_odds(attacked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = reopen_plan(read_run(attacked / "run"))
    before = {row.method: row.klom for row in build_report(plan, [], silent).rows}
    assert before == {"original": before["ungan"], "retrain": None, "ungan": "n/a (needs ≥ 32 unlearned shadow models)"}
    monkeypatch.setattr("ungan_dist.attack.klom.MIN_MODELS", 3)
    report = build_report(plan, [], silent)
    rows = {row.method: row for row in report.rows}
    log_odds = {
        name: np.concatenate([np.load(attacked / f"run/{UNLEARNED}/{name}/{first}.npy") for first in (0, 2, 4)])
        for name in METHODS
    }
    had = plan.membership[:, plan.draws[0].forget]
    values = [
        measure_klom(*(log_odds[name][of, example, 0] for name in ("ungan", "retrain")))
        for example, of in enumerate(had.T)
    ]
    klom = rows["ungan"].klom
    assert isinstance(klom, KLOM)
    assert (klom.mean, klom.percentile_95) == ([np.mean(values)], [np.percentile(values, 95)])
    assert klom.num_models == 3
    assert "KLOM, 95th percentile over the forget set" in render(report)["report.html"].decode()
    assert "klom_percentile_95" in export_table(report, "csv").decode()
    assert b"klom" not in render(report)["table.json"], "tables of finished runs stay as they are"
