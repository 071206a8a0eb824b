"""Failures that a rerun would repeat: named in every output, recorded, and retried only when that may help."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from in_process import InProcess, run_command
from small_audit import small_config

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.methods.baselines import NegGradsConfig
from ungan_dist.errors import ConfigError, Diverged
from ungan_dist.report import table_json
from ungan_dist.runs import failures, targets, units
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.targets import TargetUnit

pytestmark = pytest.mark.usefixtures("without_figures")
SCHEMA = json.loads(Path(table_json.__file__).with_name("table.schema.json").read_text())


def diverging(output: Path, **changes: Any) -> AuditConfig:
    """An audit whose Neg Grads diverges, as gradient ascent at a huge rate does."""
    neg_grads = NegGradsConfig(epochs=1, learning_rate=1e30)
    return small_config(output, **{"methods": ("original", "retrain", "neg_grads"), "neg_grads": neg_grads} | changes)


def table(output: Path) -> dict[str, Any]:
    return json.loads((output / "run/table.json").read_text())


@pytest.fixture(scope="module")
def diverged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("diverged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        report = audit(diverging(output), run_units=InProcess())
    assert report.status == "COMPLETE WITH FAILURES"
    return output


def test_a_diverged_method_is_a_row_in_every_table_with_its_reason(diverged: Path) -> None:
    content = table(diverged)
    jsonschema.validate(content, SCHEMA)
    assert (content["status"], content["missing"]) == ("COMPLETE WITH FAILURES", [])
    row = content["rows"][-1]
    assert (row["title"], row["verdict"]["outcome"]) == ("Neg Grads", "diverged")
    assert "log-odds are not finite on 400 of 400 examples" in row["reason"]
    assert [(one["method"], one["seed"], one["outcome"]) for one in content["failures"]] == [
        ("neg_grads", 0, "diverged")
    ]
    lines = (diverged / "run/table.md").read_text().splitlines()
    (cells,) = (line.split(" | ") for line in lines if line.startswith("| Neg Grads"))
    assert "diverged" in cells
    assert set(cells[1:]) <= {"–", "diverged", "– |"}
    page = (diverged / "run/report.html").read_text()
    assert page.count('<span class="badge">diverged</span>') == 2
    assert "1 diverged" in page


def test_every_command_on_it_agrees_and_advises_no_rerun(diverged: Path) -> None:
    reasons = {"report": "log-odds are not finite", "verify": "log-odds are not finite", "status": "(diverged)"}
    for command in (["report"], ["verify"], ["verify", "--quick"], ["status"]):
        done = run_command(*command, diverged / "run")
        printed = done.stdout + done.stderr
        assert done.returncode == 4, printed
        assert "run the same command" not in printed
        assert "Traceback (" not in printed
        assert "COMPLETE WITH FAILURES" in printed
        assert reasons[command[0]] in printed
    reported = run_command("report", diverged / "run")
    assert "Neg Grads" in reported.stdout
    file = diverged / "run/failures/0-neg_grads.txt"
    assert str(file) in reported.stderr
    assert file.read_text().startswith("Traceback")
    assert "1 diverged" in run_command("runs", diverged).stdout


def test_the_same_audit_computes_nothing_again_unless_a_retry_may_help(
    diverged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (diverged / "run/table.json").read_bytes()
    config = diverging(diverged)
    again = InProcess()
    assert audit(config, run_units=again).status == "COMPLETE WITH FAILURES"
    assert not again.units
    assert (diverged / "run/table.json").read_bytes() == before
    asked = InProcess()
    audit(replace(config, execution=replace(config.execution, retry_failed=True)), run_units=asked)
    assert [unit.title for unit in asked.units] == ["neg_grads, seed 0"]
    monkeypatch.setattr(failures, "versions", lambda: {"torch": "another"})
    upgraded = InProcess()
    audit(config, run_units=upgraded)
    assert [unit.title for unit in upgraded.units] == ["neg_grads, seed 0"]
    assert (diverged / "run/table.json").read_bytes() == before


def raise_under_seed_1(monkeypatch: pytest.MonkeyPatch, config_name: str, error: Exception) -> None:
    run_method = targets.run_method

    def run_or_raise(request: Any, config: Any) -> Any:
        if request.seed == 1 and type(config).__name__ == config_name:
            raise error
        return run_method(request, config)

    monkeypatch.setattr(targets, "run_method", run_or_raise)


def test_a_method_that_fails_under_one_seed_is_scored_on_the_others_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_under_seed_1(monkeypatch, "RetrainConfig", IndexError("of the user's own code\n  on a second line"))
    config = small_config(tmp_path, methods=("original", "retrain"), num_seeds=3)
    report = audit(config, run_units=InProcess())
    assert report.status == "COMPLETE WITH FAILURES"
    assert not report.failed_rows
    assert [len(row.auc.per_seed) for row in report.rows] == [3, 2]
    sentence = "Retrain, seed 1 (failed): IndexError: of the user's own code on a second line"
    assert [failure.sentence for failure in report.failures] == [sentence]
    assert sentence in (tmp_path / "run/table.md").read_text().replace("\\", "")
    jsonschema.validate(table(tmp_path), SCHEMA)
    monkeypatch.undo()
    monkeypatch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
    healed = audit(replace(config, execution=replace(config.execution, retry_failed=True)), run_units=InProcess())
    assert (healed.status, healed.failures) == ("COMPLETE", [])
    assert not list((tmp_path / "run").glob("failures/*"))
    assert "failures" not in table(tmp_path)


def test_a_method_that_diverges_under_one_seed_is_marked_in_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_under_seed_1(monkeypatch, "FineTuningConfig", Diverged("the loss is not finite"))
    config = small_config(tmp_path, methods=("original", "retrain", "fine_tuning"), num_seeds=2)
    config = replace(config, train=replace(config.train, epochs=12), model=replace(config.model, width=8))
    audit(config, run_units=InProcess())
    row = table(tmp_path)["rows"][-1]
    assert (row["utility"], row["caveat"].split(".")[0]) == (
        "utility lost", "Fine-Tuning diverged under 1 of 2 seeds"
    )  # fmt: skip


def test_a_run_of_which_nothing_can_be_scored_is_refused_in_one_sentence_and_at_once_the_next_time(
    tmp_path: Path,
) -> None:
    recipe = small_config(tmp_path)
    config = replace(recipe, train=replace(recipe.train, learning_rate=1e30))
    executor = InProcess()
    with pytest.raises(
        ConfigError, match=r"nothing can be scored.*would fail again.*loss is not finite.*Traceback: "
    ) as refused:
        audit(config, run_units=executor)
    assert "run the same command" not in str(refused.value)
    assert [unit.title for unit in executor.units] == ["original, seed 0"]  # no shadow model is trained for nothing
    again = InProcess()
    with pytest.raises(ConfigError) as second:
        audit(config, run_units=again)
    assert (str(second.value), again.units) == (str(refused.value), [])
    status = run_command("status", tmp_path / "run")
    assert (status.returncode, status.stdout.split()[1]) == (2, "REFUSED"), status.stdout


def test_what_needs_scores_names_the_run_that_computes_them(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        audit(small_config(tmp_path), run_units=InProcess(interrupted_after=1))
    for command in ("report", "export"):
        done = run_command(command, tmp_path / "run")
        assert done.returncode == 3, done.stdout
        assert f"nothing can be scored yet in {tmp_path}/run; continue it with ungan-dist run digits " in done.stderr
        assert "same command" not in done.stderr


def test_a_failure_that_a_rerun_may_change_leaves_the_run_partial(tmp_path: Path) -> None:
    config = diverging(tmp_path)

    def kill(todo: Any) -> Iterator[Any]:
        for outcome in InProcess()(todo):
            of_retrain = isinstance(outcome.unit, TargetUnit) and outcome.unit.method == "retrain"
            if of_retrain:
                (tmp_path / "run" / outcome.unit.marker).unlink()
            yield units.Failed(unit=outcome.unit, error="its process was killed") if of_retrain else outcome

    report = audit(config, run_units=kill)
    assert report.status == "PARTIAL"
    assert report.missing == ["retrain, seed 0: its process was killed"]
    assert [failure.method for failure in report.failures] == ["neg_grads"]
    shown = run_command("report", tmp_path / "run")
    assert shown.returncode == 3
    assert "partial: continue it with ungan-dist run digits " in shown.stderr
    assert f"--output {tmp_path}" in shown.stderr


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Diverged("the model has diverged"), "diverged"),
        (IndexError("in a model's forward"), "failed"),
        (RuntimeError("vmap: called random operation while in randomness error mode"), "failed"),
        (SystemExit(1), "failed"),
        (RecursionError(), "failed"),
        (OSError(errno.ENOSPC, "No space left on device"), "storage_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "storage_full"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (ConnectionResetError("reset"), "error"),
        (TimeoutError("storage"), "error"),
        (FileNotFoundError("a node without the file"), "error"),
        (ModuleNotFoundError("No module named 'mymodels'"), "error"),
        (store.CorruptResult("original.safetensors is altered"), "error"),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "error"),
    ],
)
def test_only_what_code_raises_counts_as_final(error: BaseException, kind: str) -> None:
    found = units.failure_of(None, error)
    assert found.kind == kind
    assert found.is_final == (kind in ("failed", "diverged"))
    assert "\n" not in found.error
    wrapped = ValueError("model.factory m:f raised something")
    wrapped.__cause__ = error
    assert units.classify(wrapped) == kind


def test_a_change_of_the_users_code_makes_a_recorded_failure_outdated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "layers_beside_a_model.py").write_text("WIDTH = 3\n")
    (tmp_path / "model_that_fails.py").write_text("import layers_beside_a_model\n")
    import model_that_fails  # pyright: ignore[reportMissingImports] # noqa: F401

    before = failures._hash_code("model_that_fails:build")
    assert before == failures._hash_code("model_that_fails:build")
    (tmp_path / "layers_beside_a_model.py").write_text("WIDTH = 4\n")
    assert before != failures._hash_code("model_that_fails:build")
