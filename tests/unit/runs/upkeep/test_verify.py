"""``verify`` finds altered and missing files; ``runs`` lists runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damaged_records import plain, rewrite
from in_process import InProcess, run_command
from small_audit import small_config

from ungan_dist import store
from ungan_dist.commands import runs as runs_command
from ungan_dist.commands import verify as verify_command
from ungan_dist.errors import ConfigError
from ungan_dist.files import hash_bytes
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.record import read_run
from ungan_dist.runs.status import RunState, current_state
from ungan_dist.runs.upkeep.verify import Verification, verify

pytestmark = pytest.mark.usefixtures("figures_are_drawn_once")


def verified(output: Path) -> Verification:
    return verify(read_run(output / "run"), output / "run")


def test_a_finished_run_is_complete(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verified(output) == Verification(state=RunState.COMPLETE, corrupt=[], missing=[])
    assert verify_command.main([str(output / "run")]) == 0
    assert capsys.readouterr().out == "COMPLETE\n"


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("shadows/*.npy", "shadow models"),
        ("run/models/0/ungan.safetensors", "ungan, seed 0"),
        ("run/log_odds/0/retrain.npy", "retrain, seed 0"),
        ("run/membership.npy", "membership.npy"),
        ("data/*/images.npy", "images.npy"),
        ("run/report.html", "report.json"),
        ("run/table.json", "report.json"),
    ],
)
def test_a_flipped_byte_is_found_and_named(
    output: Path, pattern: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sorted(output.glob(pattern))[0]
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    found = verified(output)
    assert found.state == "CORRUPT"
    assert named in found.corrupt[0]
    assert verify_command.main([str(output / "run")]) == 1
    assert named in capsys.readouterr().err


def edit(path: Path, **fields: object) -> None:
    store.write_json(path, store.read_json(path) | fields)


@pytest.mark.parametrize(
    "gone", [("run/report.json", "run/table.json", "run/table.md", "run/report.html"), ("run/membership.json",)]
)
def test_a_run_without_its_report_or_membership_is_not_complete(output: Path, gone: tuple[str, ...]) -> None:
    for name in gone:
        (output / name).unlink()
    found = verified(output)
    assert found.state == "PARTIAL"
    assert found.missing == [str((output / gone[0]).resolve())]


def test_invalid_markers_are_found(output: Path) -> None:
    (data,) = (path for path in output.glob("data/*/*.json") if (path.parent / "images.npy").exists())
    shadow = next(iter(output.glob("shadows/*.json")))
    (output / store.read_json(shadow)["files"].popitem()[0]).unlink()
    (output / "run/membership.npy").write_bytes(b"not an array")
    (output / "run/table.md").write_text("all is well")
    edit(shadow, files={})
    edit(output / "run/membership.json", id="0" * 64)
    edit(data, id="0" * 64)
    edit(output / "run/report.json", files={})
    rewrite(output / "run/results/0/ungan.json", facts={})
    found = verified(output)
    assert found.state == "CORRUPT"
    text = "\n".join(found.corrupt)
    for named in ("shadow models", "membership.npy", "images.npy", "report.json", "ungan, seed 0"):
        assert named in text, text


def test_a_marker_without_facts_gives_no_traceback(output: Path) -> None:
    path = output / "run/results/0/ungan.json"
    store.write_json(path, {name: value for name, value in plain(path).items() if name != "facts"})
    assert verified(output).state == "CORRUPT"


def test_an_interrupted_purge_is_not_complete(output: Path) -> None:
    store.write_json(output / "run/purging.json", {"removed": ["run/log_odds/0/retrain.npy"]})
    found = verified(output)
    assert found.state == "CORRUPT"
    assert "finishes it" in found.corrupt[0]


def test_scores_are_recomputed_from_the_stored_log_odds(output: Path) -> None:
    """A result altered together with its hash is found only by recomputation."""
    plan = make_plan(small_config(output))
    unit = plan.shadows[0]
    altered = store.read_array(output / unit.log_odds_file) + np.float32(0.5)
    store.commit(output, unit.marker, id=unit.id, files={unit.log_odds_file: store.array_bytes(altered)})
    found = verified(output)
    assert found.state == "CORRUPT"
    assert "differs from the table of the stored log-odds" in found.corrupt[0]


def test_a_run_with_missing_results_is_partial(output: Path) -> None:
    next(iter(output.glob("shadows/*.json"))).unlink()
    (output / "run/results/0/ungan.json").unlink()
    found = verified(output)
    assert found.state == "PARTIAL"
    assert len(found.missing) == 2
    assert verify_command.main([str(output / "run")]) == 3


def test_another_seeds_membership_is_found(output: Path) -> None:
    matrix = store.read_array(output / "run/membership.npy")
    id = store.read_json(output / "run/membership.json")["id"]
    files = {"membership.npy": store.array_bytes(matrix[::-1])}
    store.commit(output / "run", "membership.json", id=id, files=files)
    (output / "run/membership.npy").write_bytes(store.array_bytes(matrix[:, ::-1]))
    assert verified(output).state == "CORRUPT"


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run folder"):
        verify_command.main([str(tmp_path)])
    with pytest.raises(ConfigError, match="required: RUN"):
        verify_command.main([])


def test_runs_are_listed_and_removed(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs_command.main([str(output)]) == 0
    listed = capsys.readouterr().out
    assert "run " in listed
    assert "COMPLETE" in listed
    assert "shadows/" in listed
    with store.run_lock(output / "run"), pytest.raises(ConfigError, match="at work"):
        runs_command.main([str(output), "--remove", "run"])
    assert (output / "run/config.json").exists()
    with pytest.raises(ConfigError, match="no run of"):
        runs_command.main([str(output), "--remove", "shadows"])
    with pytest.raises(ConfigError, match="no run of"):
        runs_command.main([str(output), "--remove", "../out/run"])
    assert runs_command.main([str(output), "--remove", "run", "--yes"]) == 0
    assert not (output / "run").exists()
    assert list(output.glob("shadows/*.npy"))


def test_a_run_with_a_driver_is_running_and_one_without_is_partial(output: Path) -> None:
    assert current_state(output / "run") is RunState.COMPLETE
    with store.run_lock(output / "run"):
        assert current_state(output / "run") is RunState.RUNNING
    (output / "run/status.json").unlink()
    assert current_state(output / "run") is RunState.PARTIAL


def test_a_quick_check_finds_wrong_sizes_and_damaged_small_files(output: Path) -> None:
    run = output / "run"
    assert run_command("verify", "--quick", run).stdout == "COMPLETE\n"
    shadow = next(output.glob("shadows/*.npy"))
    for path in (run / "table.json", run / "log_odds/0/ungan.npy", shadow, next(output.glob("data/*/images.npy"))):
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        found = run_command("verify", "--quick", run)
        assert (found.returncode, found.stdout) == (1, "CORRUPT\n")
        assert str(path) in found.stderr
        path.write_bytes(content)
    (run / "finished.json").unlink()
    assert "run ungan-dist report" in run_command("verify", "--quick", run).stderr
    rewrite(run / "status.json", state="PARTIAL", missing=["ungan, seed 0"])
    partial = run_command("verify", "--quick", run)
    assert (partial.returncode, partial.stdout, partial.stderr) == (3, "PARTIAL\n", "missing: ungan, seed 0\n")
    assert run_command("verify", "--quick", "s3://bucket/run").returncode == 2


@pytest.mark.parametrize(
    ("pattern", "field"),
    [
        ("run/finished.json", "results"),
        ("run/membership.json", "files"),
        ("run/report.json", "files"),
        ("run/results/*/*.json", "files"),
        ("run/status.json", "missing"),
        ("shadows/*.json", "files"),
        ("data/*/manifest.json", "files"),
    ],
)
def test_a_quick_check_reports_a_malformed_record_as_corrupt(output: Path, pattern: str, field: str) -> None:
    run = output / "run"
    path = sorted(output.glob(pattern))[0]
    content = store.read_json(path)
    contents = [json.dumps(value) for value in (content | {field: 5}, content | {field: None}, [content], 5, {})]
    if field != "missing":
        contents.append(json.dumps(content | {field: ["x"]}))
    for text in (*contents, "[" * 200_000, "{", "\0", ""):
        path.write_text(text)
        found = run_command("verify", "--quick", run)
        assert (found.returncode, found.stdout) == (1, "CORRUPT\n"), text[:100]
        assert str(path) in found.stderr


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "manifest.json"])
def test_a_quick_check_finds_a_flipped_byte_in_the_data(output: Path, name: str) -> None:
    path = next(output.glob(f"data/*/{name}"))
    content = bytearray(path.read_bytes())
    position = content.index(b'"id": "') + 10 if name == "manifest.json" else -5
    content[position] ^= 1
    path.write_bytes(content)
    found = run_command("verify", "--quick", output / "run")
    assert (found.returncode, found.stdout) == (1, "CORRUPT\n")
    assert str(path) in found.stderr


@pytest.mark.parametrize("text", ["[" * 200_000, '{"identity": {"split": ""}}'])
def test_a_damaged_config_is_corrupt(output: Path, text: str) -> None:
    (output / "run/config.json").write_text(text)
    for words in (("verify", "--quick"), ("verify",)):
        found = run_command(*words, output / "run")
        assert (found.returncode, found.stdout) == (1, "CORRUPT\n")
        assert "config.json" in found.stderr


def test_a_forged_result_is_found_by_evaluating_the_stored_model(output: Path) -> None:
    """Accuracy and log-odds that do not come from the weights, with fitting hashes."""
    run = output / "run"
    assert run_command("verify", "--recompute", run).stdout == "COMPLETE\n"
    ungan, retrain = (run / f"results/0/{method}.json" for method in ("ungan", "retrain"))
    facts = plain(ungan)["facts"]
    rewrite(ungan, facts=facts | {"accuracy": facts["accuracy"] | {"forget": 0.0}})
    files = {"log_odds/0/retrain.npy": store.array_bytes(store.read_array(run / "log_odds/0/retrain.npy") - 1)}
    store.write_file(run / "log_odds/0/retrain.npy", files["log_odds/0/retrain.npy"])
    rewrite(retrain, files=plain(retrain)["files"] | {name: hash_bytes(content) for name, content in files.items()})
    (run / "report.json").unlink()
    assert run_command("report", run).returncode == 0
    assert run_command("verify", run).stdout == "COMPLETE\n"
    found = run_command("verify", "--recompute", run)
    assert (found.returncode, found.stdout) == (1, "CORRUPT\n")
    assert "ungan, seed 0: its accuracy on forget is" in found.stderr
    assert "retrain, seed 0: the log-odds that models/0/retrain.safetensors gives" in found.stderr
    assert found.stderr.count("corrupt:") == 2


def test_kept_shadow_models_are_evaluated_too(tmp_path: Path) -> None:
    config = small_config(tmp_path / "out", methods=("original",))
    config = replace(config, train=replace(config.train, epochs=1))
    audit(replace(config, execution=replace(config.execution, keep_shadow_models=True)), run_units=InProcess())
    run = tmp_path / "out/run"
    assert run_command("verify", "--recompute", run).stdout == "COMPLETE\n"
    unit = make_plan(config).shadows[0]
    altered = store.read_array(tmp_path / "out" / unit.log_odds_file)
    altered[1] += 1
    store.write_file(tmp_path / "out" / unit.log_odds_file, store.array_bytes(altered))
    marker = tmp_path / "out" / unit.marker
    rewrite(marker, files=plain(marker)["files"] | {unit.log_odds_file: hash_bytes(store.array_bytes(altered))})
    found = run_command("verify", "--recompute", run)
    assert (found.returncode, found.stdout) == (1, "CORRUPT\n")
    assert f"{unit.weights_file(unit.shadows[1])} gives" in found.stderr
    assert f"{unit.weights_file(unit.shadows[0])} gives" not in found.stderr


@pytest.mark.parametrize("words", [["--quick", "--recompute"], ["--trust"], ["--model", "net:build"]])
def test_options_that_do_not_fit_are_refused(output: Path, words: list[str]) -> None:
    assert run_command("verify", *words, output / "run").returncode == 2
