"""A changed digit, key or place of a record is found before the record is used."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from damaged_records import make_old, plain
from in_process import InProcess, run_command
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist import load, store
from ungan_dist.data.prepared import open_examples, prepare
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.plan import make_plan

pytestmark = pytest.mark.usefixtures("without_figures")
RUN = ("run", "digits", *SMALL_OPTIONS)


def find(output: Path, pattern: str) -> Path:
    return sorted(output.glob(pattern))[0]


def change_digit(path: Path, key: str) -> None:
    """Change the first digit behind a key of a JSON file, in the text."""
    before = path.read_text()
    after = re.sub(rf'("{re.escape(key)}":[^0-9]*)(\d)', lambda m: m[1] + str((int(m[2]) + 1) % 10), before, count=1)
    assert after != before
    path.write_text(after)


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("data/*/manifest.json", "std"),
        ("shadows/*.json", "versions"),
        ("run/results/0/ungan.json", "forget"),
        ("run/membership.json", "cut"),
        ("run/status.json", "time"),
        ("run/status.json", "folder"),
        ("run/finished.json", "version"),
        ("run/report.json", "id"),
    ],
)
def test_a_damaged_record_is_corrupt_and_healed_or_refused(output: Path, pattern: str, damage: str) -> None:
    path = find(output, pattern)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-1])  # the last line break alone
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        change_digit(path, damage)
    found = run_command("verify", output / "run")
    assert (found.returncode, found.stdout, found.stderr.count("Traceback")) == (1, "CORRUPT\n", 0), found.stderr
    again = run_command(*RUN, "--output", output)
    assert "Traceback" not in again.stderr
    if damage == "folder":
        assert again.returncode == 2
        assert "status.json is a folder" in again.stderr
    else:
        assert again.returncode == 0
        assert run_command("verify", output / "run").stdout == "COMPLETE\n"


def test_pixels_are_normalised_by_the_sources_moments_even_under_an_early_manifest(output: Path) -> None:
    """Before markers had a hash over their facts, a changed std gave other pixels without a word."""
    manifest = find(output, "data/*/manifest.json")
    facts = plain(manifest)["facts"]
    make_old(manifest, facts=facts | {"std": [facts["std"][0] * 2]})
    assert run_command("verify", output / "run").stdout == "CORRUPT\n"
    source = make_plan(small_config(output)).source
    examples = open_examples(prepare(source, output), "cpu")
    black, white = (float(examples.table[level].squeeze()) for level in (0, 255))
    expected = [(level - source.mean[0]) / source.std[0] for level in (0, 1)]
    assert [black, white] == pytest.approx(expected)


@pytest.mark.parametrize("key", ["accuracy", "curves", "unlearning_seconds"])
def test_an_early_marker_without_a_needed_fact_is_computed_again(output: Path, key: str) -> None:
    marker = output / "run/results/0/ungan.json"
    facts = plain(marker)["facts"]
    make_old(marker)
    (output / "run/finished.json").unlink()
    assert run_command("verify", output / "run").stdout == "COMPLETE\n"
    make_old(marker, facts={name: value for name, value in facts.items() if name != key})
    found = run_command("verify", output / "run")
    assert (found.stdout, found.stderr.count("ungan, seed 0")) == ("CORRUPT\n", 1)
    units = InProcess()
    audit(small_config(output), run_units=units)
    assert [unit.title for unit in units.units] == ["ungan, seed 0"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("appended", {"methods": ["original", "retrain"], "num_seeds": 1, "shadows.num_models": 4}),
        ("resolved", {"device": "cuda"}),
        ("source_path", "/elsewhere"),
        ("channels", 3),
        ("data_hash", "0" * 64),
        ("results_version", 1),
    ],
)
def test_a_changed_value_of_a_runs_config_is_found_by_every_command(output: Path, key: str, value: object) -> None:
    path = output / "run/config.json"
    store.write_json(path, store.read_json(path) | {key: value})
    for command in ("verify", "report", "purge"):
        result = run_command(command, output / "run")
        assert result.returncode == (1 if command == "verify" else 2), result.stderr
        assert "config.json is damaged" in result.stderr
    assert "CORRUPT" in run_command("runs", output).stdout
    assert run_command(*RUN, "--output", output).returncode == 2
    path.unlink()  # the remedy that the message names
    assert run_command(*RUN, "--output", output).returncode == 0
    assert run_command("verify", output / "run").stdout == "COMPLETE\n"


def test_an_early_config_is_read_and_its_identity_compared(output: Path) -> None:
    path = output / "run/config.json"
    store.write_json(path, {name: value for name, value in plain(path).items() if name != "pixels"})  # a later key
    assert run_command("verify", output / "run").stdout == "COMPLETE\n"
    identity = plain(path)["identity"]
    make_old(path, identity=identity | {"train": identity["train"] | {"epochs": 4}})
    found = run_command("verify", output / "run")
    assert (found.returncode, found.stdout) == (1, "CORRUPT\n")
    assert "its hash does not match its identity" in found.stderr


@pytest.fixture(scope="module")
def finished_two(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs on the same data; the second has two seeds."""
    output = shutil.copytree(finished_run, tmp_path_factory.mktemp("two") / "out")
    config = small_config(output, num_seeds=2)
    again = replace(config, ungan=replace(config.ungan, epochs=2), methods=("original", "ungan"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
        audit(replace(again, execution=replace(config.execution, run_name="second")), run_units=InProcess())
    return output


@pytest.fixture
def two_runs(finished_two: Path, tmp_path: Path) -> Path:
    """A copy of the two runs' output folder."""
    return shutil.copytree(finished_two, tmp_path / "out")


RESULT = ("results/{}.json", "models/{}.safetensors", "log_odds/{}.npy", "log_odds/{}-unseen.npy")


def copy_result(source: Path, destination: Path, taken: str, place: str) -> None:
    for pattern in RESULT:
        shutil.copy(source / pattern.format(taken), destination / pattern.format(place))


@pytest.mark.parametrize(
    ("taken", "place"), [("0/ungan", "0/ungan"), ("1/ungan", "0/ungan"), ("0/original", "0/ungan")]
)
@pytest.mark.parametrize("how", ["all files", "renamed in the marker"])
def test_a_result_of_another_run_seed_or_method_is_not_taken(two_runs: Path, taken: str, place: str, how: str) -> None:
    first, second = two_runs / "run", two_runs / "second"
    donor = first if taken == place else second
    copy_result(donor, second, taken, place)
    if how == "renamed in the marker":
        marker = second / f"results/{place}.json"
        files = {name.replace(taken, place): digest for name, digest in plain(marker)["files"].items()}
        store.write_record(marker, plain(marker) | {"files": files})
    with pytest.raises(store.CorruptResult, match=r"ungan\.safetensors"):
        load(second, "ungan")
    found = run_command("verify", second)
    assert (found.returncode, found.stdout) == (1, "CORRUPT\n")
    assert "ungan, seed 0" in found.stderr
    units = InProcess()
    config = small_config(two_runs, num_seeds=2, methods=("original", "ungan"))
    config = replace(config, ungan=replace(config.ungan, epochs=2))
    audit(replace(config, execution=replace(config.execution, run_name="second")), run_units=units)
    assert [unit.title for unit in units.units] == ["ungan, seed 0"]
    assert run_command("verify", second).stdout == "COMPLETE\n"
