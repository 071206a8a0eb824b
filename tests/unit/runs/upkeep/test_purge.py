"""A purged run has no data of single examples, keeps its aggregates, and lists what it could not remove."""

from __future__ import annotations

import base64
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from damaged_records import make_old, rewrite_run
from in_process import InProcess, run_command
from small_audit import small_config

import ungan_dist
from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.errors import ConfigError
from ungan_dist.report.redact import redact_page
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.record import read_run
from ungan_dist.runs.upkeep import purge as purging
from ungan_dist.runs.upkeep.purge import plan_purge, purge

pytestmark = pytest.mark.usefixtures("without_figures")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def add_run(output: Path, name: str, **changes: object) -> None:
    """Make another run in the state of a newly started driver."""
    rewrite_run(output / name / "config.json", **changes)


def needles(output: Path) -> list[bytes]:
    """Return bytes that reveal single examples: pixels, log-odds, scores' input, pictures, the originals' weights."""
    plan = make_plan(read_run(output / "run").config)
    forget = plan.split.pool[plan.draws[0].forget]
    found = [plan.source.images[index].tobytes() for index in forget]
    found += [store.read_array(path).tobytes()[:64] for path in output.rglob("log_odds/*/*.npy")]
    found += [store.read_array(path).tobytes()[:64] for path in output.glob("shadows/*.npy")]
    found += [path.read_bytes()[-64:] for path in output.rglob("original.safetensors")]
    page = (output / "run/report.html").read_text()
    found += [part.split('"')[0].encode() for part in page.split("base64,")[1:]]
    assert len(found) > 60
    return found


def holding(output: Path, some: list[bytes]) -> set[str]:
    contents = {name: (output / name).read_bytes() for name in files(output)}
    return {name for name, content in contents.items() if any(needle in content for needle in some)}


def test_data_of_single_examples_is_removed_and_aggregates_are_kept(output: Path) -> None:
    assert "data:image/png" in (output / "run/report.html").read_text()
    some = needles(output)
    kept = {name: (output / "run" / name).read_bytes() for name in ("table.json", "table.md", "timings.json")}
    assert {"run/report.html", "run/models/0/original.safetensors"} <= holding(output, some)
    done = purge(output / "run")
    assert holding(output, some) == set()
    assert {name: (output / "run" / name).read_bytes() for name in kept} == kept
    assert (done.in_use, done.affected, done.notes) == ({}, [], [])
    # only the files listed in the README remain
    assert {name.split("/", 2)[1] for name in files(output)} == {
        *("config.json", "table.json", "table.md", "timings.json", "report.html", "report.json", "status.json"),
        *("figures", "results", "models", "purged.json", ".lock"),
    }
    assert sorted(path.name for path in output.iterdir()) == ["run"]
    record = store.read_json(output / "run/purged.json")
    assert set(record["removed"]) == set(done.removed)
    assert record["remaining"] == []


def test_the_page_states_the_purge_and_its_marker_is_valid(output: Path) -> None:
    purge(output / "run")
    page = (output / "run/report.html").read_text()
    assert "PURGED." in page
    assert "<h2>Forget examples" not in page
    assert "data:image" not in page
    assert "What may be concluded" in page
    marker = store.read_json(output / "run/report.json")
    assert store.committed(output / "run", "report.json", id=marker["id"]) is not None


def test_the_unlearned_model_is_kept(output: Path) -> None:
    before = ungan_dist.load(output / "run", "ungan").state_dict()
    purge(output / "run")
    after = ungan_dist.load(output / "run", "ungan").state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(ConfigError, match="no model of 'original'"):
        ungan_dist.load(output / "run", "original")
    purge(output / "run", models=True)
    assert not [name for name in files(output) if name.endswith(".safetensors")]


def test_a_purged_run_is_neither_reported_nor_continued(output: Path) -> None:
    purge(output / "run")
    before = files(output)
    done = run_command("report", output / "run")
    assert done.returncode == 2
    assert "was purged on 20" in done.stderr
    assert "table.json" in done.stderr
    with pytest.raises(ConfigError, match="was purged on"):
        audit(small_config(output), run_units=InProcess())
    assert files(output) == before


def test_verify_and_status_report_the_purge(output: Path) -> None:
    assert "COMPLETE" in run_command("verify", output / "run").stdout
    purge(output / "run")
    assert "PURGED" in run_command("verify", output / "run").stdout
    assert "PURGED" in run_command("status", output / "run").stdout


def test_files_that_other_runs_use_are_kept_and_named(output: Path) -> None:
    add_run(output, "next request")
    some = needles(output)
    done = run_command("purge", output / "run")
    assert done.returncode == 3, done.stderr
    assert "next request" in done.stderr
    assert "--shared" in done.stderr
    left = holding(output, some)
    assert left
    assert all(name.startswith(("data/", "shadows/")) for name in left)
    assert left <= set(store.read_json(output / "run/purged.json")["remaining"])
    assert "data/" in (output / "run/report.html").read_text()
    # a partial purge is extended later
    again = run_command("purge", output / "run", "--shared")
    assert again.returncode == 0, again.stderr
    assert "runs that lose shared files: next request" in again.stdout
    assert holding(output, some) == set()
    assert store.read_json(output / "run/purged.json")["remaining"] == []
    page = (output / "run/report.html").read_text()
    assert page.count("PURGED.") == 1
    assert "data/" not in page.split("Files that still hold forget data")[1].split("</section>")[0]


def test_only_runs_that_really_share_keep_shared_files(output: Path) -> None:
    record = store.read_json(output / "run/config.json")
    other_training = {**record["identity"], "train": {**record["identity"]["train"], "learning_rate": 0.2}}
    add_run(output, "another training", identity=other_training)
    add_run(output, "other data", data_hash="0" * 64)
    done = plan_purge(output / "run")
    assert done.in_use
    assert all(name.startswith("data/") for name in done.in_use)
    assert set(map(tuple, done.in_use.values())) == {("another training",)}
    (output / "other data/config.json").write_text("{")
    done = plan_purge(output / "run")
    assert {name.split("/")[0] for name in done.in_use} == {"data", "shadows"}
    assert all("other data" in users for users in done.in_use.values())


def test_purging_the_last_of_two_runs_removes_the_shared_files(output: Path) -> None:
    config = small_config(output)
    audit(replace(config, num_seeds=2, execution=replace(config.execution, run_name="second")), run_units=InProcess())
    assert plan_purge(output / "run").in_use
    purge(output / "run")
    done = purge(output / "second")
    assert done.in_use == {}
    assert not [name for name in files(output) if name.endswith(".npy")]


def small(output: Path, name: str, num_models: int = 8, **split: int) -> AuditConfig:
    config = small_config(output)
    return replace(
        config,
        shadows=replace(config.shadows, num_models=num_models),
        split=replace(config.split, **split),
        execution=replace(config.execution, run_name=name),
    )


def of_examples(output: Path) -> list[str]:
    return [name for name in files(output) if name.startswith(("shadows/", "data/"))]


def test_kept_shadow_models_are_removed(tmp_path: Path) -> None:
    config = small(tmp_path, "run")
    audit(replace(config, execution=replace(config.execution, keep_shadow_models=True)), run_units=InProcess())
    assert [name for name in of_examples(tmp_path) if name.endswith(".safetensors")]
    assert purge(tmp_path / "run").in_use == {}
    assert of_examples(tmp_path) == []


@pytest.mark.parametrize("other", ["a longer run", "another split"])
@pytest.mark.parametrize("first", ["purged", "removed"])
def test_purging_the_last_run_on_the_data_removes_leftovers_of_earlier_ones(
    output: Path, other: str, first: str
) -> None:
    longer = {"num_models": 16} if other == "a longer run" else {"seed": 5}
    audit(small(output, "other", **longer), run_units=InProcess())
    if first == "purged":
        assert run_command("purge", output / "other").returncode == 3
    else:
        shutil.rmtree(output / "other")
    assert of_examples(output)
    done = run_command("purge", output / "run")
    assert done.returncode == 0, done.stderr
    assert of_examples(output) == []


def test_temporary_files_are_removed_even_if_their_pid_is_live(output: Path) -> None:
    asides = [output / place / f".x.npy.{os.getpid()}.deadbeef.tmp" for place in ("shadows", "run")]
    for aside in asides:
        aside.write_bytes(b"log-odds")
    purge(output / "run")
    assert not any(aside.exists() for aside in asides)


def test_a_dry_run_lists_removals_and_removes_nothing(output: Path) -> None:
    before = {name: (output / name).read_bytes() for name in files(output)}
    done = run_command("purge", output / "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would be removed" in done.stdout
    assert "run/log_odds/0/ungan.npy" in done.stdout
    assert {name: (output / name).read_bytes() for name in files(output)} == before


def test_a_purge_interrupted_anywhere_is_finished_by_the_next(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shutil.copytree(finished_run, tmp_path / "whole")
    removed = len(purge(whole / "run").removed)
    remove = purging._remove  # pyright: ignore[reportPrivateUsage]
    for point in (0, 1, removed // 2, removed - 1):
        output = shutil.copytree(finished_run, tmp_path / f"cut {point}")
        calls = iter(range(removed))

        def cut(path: Path, point: int = point, calls: object = calls) -> None:
            if next(calls) == point:  # pyright: ignore[reportArgumentType, reportCallIssue]
                raise KeyboardInterrupt
            remove(path)

        monkeypatch.setattr(purging, "_remove", cut)
        with pytest.raises(KeyboardInterrupt):
            purge(output / "run")
        monkeypatch.setattr(purging, "_remove", remove)
        assert not (output / "run/purged.json").exists()
        with pytest.raises(ConfigError, match="purge was cut short"):
            audit(small_config(output), run_units=InProcess())
        purge(output / "run")
        assert files(output) == files(whole)


def test_a_list_of_an_interrupted_purge_removes_nothing_elsewhere(output: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    names = ["../outside", "run/../../outside", str(outside), "other/config.json", "shadows/orphan.npy"]
    add_run(output, "other")
    (output / "shadows/orphan.npy").write_bytes(b"log-odds")
    store.write_json(output / "run/purging.json", {"removed": names})
    purge(output / "run", shared=True)
    assert outside.exists()
    assert (output / "other/config.json").exists()
    assert not (output / "shadows/orphan.npy").exists()


def test_an_active_run_is_not_purged(output: Path) -> None:
    before = files(output)
    add_run(output, "at work")
    with store.run_lock(output / "run"), pytest.raises(ConfigError, match="a process is at work on"):
        purge(output / "run")
    with store.run_lock(output / "at work"), pytest.raises(ConfigError, match=r"at work on .*at work"):
        purge(output / "run", shared=True)
    assert before <= files(output)


@pytest.mark.parametrize("neighbour", [False, True])
def test_without_the_data_the_last_run_removes_shadow_models(output: Path, tmp_path: Path, neighbour: bool) -> None:
    record = store.read_json(output / "run/config.json")
    record["identity"]["source"]["kind"] = "parquet"
    if neighbour:
        add_run(output, "neighbour", data_hash="0" * 64)
    rewrite_run(output / "run/config.json", identity=record["identity"], source_path=str(tmp_path / "gone"))
    unnamed, *named = sorted(output.glob("shadows/*.json"))
    facts = {name: value for name, value in store.read_json(unnamed)["facts"].items() if name != "data"}
    make_old(unnamed, facts=facts)
    done = purge(output / "run")
    left = {name for name in files(output) if not name.startswith(("run/", "neighbour/"))}
    expected = {f"shadows/{unnamed.stem}{end}" for end in (".json", ".npy")} if neighbour else set()
    assert named
    assert left == set(done.in_use) == expected
    assert not [name for name in files(output / "run") if name.endswith(".npy")]


def test_a_page_of_another_form_is_removed(output: Path) -> None:
    picture = base64.b64encode(np.zeros(9).tobytes()).decode()
    for page in (f"<img src='data:image/png;base64,{picture}'>", "<header></header>"):
        with pytest.raises(ValueError, match="unknown structure"):
            redact_page(page, notice="", remaining=())
    (output / "run/report.html").write_text(f"<p><img src='data:image/png;base64,{picture}'></p>")
    purge(output / "run")
    assert not (output / "run/report.html").exists()
    assert (output / "run/table.json").exists()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    for words in (["purge", str(tmp_path)], ["purge"], ["purge", "a", "b"], ["purge", "a", "--everything"]):
        assert run_command(*words).returncode == 2
    assert not list(tmp_path.iterdir())


def test_purged_json_is_plain(output: Path) -> None:
    purge(output / "run")
    record = json.loads((output / "run/purged.json").read_text())
    assert set(record) == {"purged", "last", "removed", "remaining", "notes", "sha256"}
