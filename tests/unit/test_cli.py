"""The command line: its help, and the inputs that it refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS

from ungan_dist import cli
from ungan_dist.errors import ConfigError

ROOT = Path(__file__).parents[2]


HEAVY = ("torch", "ray", "triton", "ffcv", "matplotlib", "scipy", "sklearn")
ANSWER = f"""
import sys
from ungan_dist import cli
try:
    cli.main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code
print([name for name in {HEAVY} if name in sys.modules])
"""


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["recipes"], ["run", "digits", "--help"], ["--version"]),
        *([command, "--help"] for command in ("doctor", "plan", "submit", "status", "cancel", "manifest", "purge")),
    ],
)
def test_help_is_printed_without_the_libraries_that_take_seconds_to_import(arguments: list[str]) -> None:
    result = subprocess.run([sys.executable, "-c", ANSWER, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    *text, imported = result.stdout.splitlines()
    assert "".join(text).strip()
    assert imported == "[]"


def test_recipes_are_listed_with_descriptions() -> None:
    listed = run_command("recipes").stdout
    for name in ("digits", "cifar10-small", "paper", "cifar10-resnet18"):
        assert name in listed


def test_unknown_names_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    assert_refused(run_command("run", "digitz"), "digitz", "cifar10-small")
    assert_refused(run_command("dance"), "dance", "report")
    assert_refused(run_command("run", "digits", "--methods", "magic"), "magic", "retrain")
    assert_refused(run_command("run", "digits", "--ungan.penalty", "cubed"), "cubed", "as_written")
    assert_refused(run_command("run", "digits", "--ungan.penalti", "squared"), "--ungan.penalti", "--ungan.penalty")
    assert_refused(run_command("report", tmp_path), str(tmp_path), "not a run folder")


def test_a_mistyped_name_is_answered_with_the_nearest_one() -> None:
    assert_refused(run_command("rnu"), "did you mean run?")
    assert_refused(run_command("run", "digitz"), "did you mean digits?")
    assert_refused(run_command("run", "digits", "--methods", "original,retrian"), "did you mean retrain?")
    assert_refused(run_command("verify", "runs", "--quik"), "unknown option --quik", "did you mean --quick?")
    assert_refused(run_command("recipes", "foo"), "unknown argument foo")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "X", "--help"], ["usage: ungan-dist report RUN"]),
        (["runs", "--help", "x"], ["usage: ungan-dist runs"]),
        (["recipes", "-h"], ["usage: ungan-dist recipes"]),
        (["run", "--help"], ["usage: ungan-dist run RECIPE", "cifar10-small"]),
        (["manifest", "kuberay", "paper", "--help"], ["usage: ungan-dist manifest kuberay"]),
        (["audit", "custom", "--help"], ["usage: ungan-dist audit"]),
        (["audit", "--model", "a:b", "-h"], ["usage: ungan-dist audit"]),
        (["plan", "digits", "--help"], ["usage: ungan-dist plan"]),
        (["run", "digits", "--num-seeds", "many", "--help"], ["--num-seeds", "--split.forget-fraction"]),
        (["submit", "digits", "--output", "/runs", "--help"], ["--num-seeds"]),
        *(([name, "--help"], [f"usage: ungan-dist {name}"]) for name in cli.COMMANDS),
    ],
)
def test_help_anywhere_in_the_words_prints_help(arguments: list[str], words: list[str]) -> None:
    result = run_command(*arguments)
    assert result.returncode == 0, result.stderr
    for word in words:
        assert word in result.stdout


@pytest.mark.parametrize("command", ["report", "verify", "purge", "prepare", "status", "cancel", "plan", "submit"])
def test_a_command_without_its_argument_names_its_help(command: str) -> None:
    result = run_command(command)
    assert_refused(result)
    assert result.stderr.endswith(f"(see ungan-dist {command} --help)\n")


def test_other_commands_without_their_argument_are_refused() -> None:
    assert_refused(run_command("run"), "name a recipe first", "digits")
    assert_refused(run_command("manifest"), "kuberay")
    assert_refused(run_command("audit"), "--unlearned")


def test_an_unknown_option_of_audit_leads_to_the_list_of_options() -> None:
    refused = run_command("audit", "--unlearned", "w", "--no-such-option")
    assert refused.returncode == 2
    assert "ungan-dist run custom --help" in refused.stderr + refused.stdout


COMMANDS_ON_RUNS = [["report"], ["verify"], ["verify", "--quick"], ["purge"], ["purge", "--dry-run"], ["status"]]


@pytest.mark.parametrize("command", COMMANDS_ON_RUNS, ids=" ".join)
def test_a_path_without_a_run_is_refused_with_the_command_that_lists_runs(command: list[str], tmp_path: Path) -> None:
    file, empty, output = (tmp_path / name for name in ("README.md", "empty", "output"))
    file.write_text("not a folder")
    empty.mkdir()
    (output / "digits-0").mkdir(parents=True)
    (output / "digits-0" / "config.json").write_text("{}")
    assert_refused(run_command(*command, file), "not a run folder", "ungan-dist runs DIR")
    assert_refused(run_command(*command, empty), "not a run folder", "ungan-dist runs DIR")
    assert_refused(run_command(*command, output), "not a run folder", f"ungan-dist runs {output}")


def test_status_of_an_unknown_name_mentions_runs_and_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str, *, without_token: bool) -> None:
        raise ConfigError("no Jobs API")

    monkeypatch.setattr("ungan_dist.cluster.jobs_api.connect_jobs_api", refuse)
    monkeypatch.chdir(tmp_path)
    assert_refused(run_command("status", "abc"), "no run folder", "no job", "no Jobs API", "ungan-dist runs DIR")
    assert_refused(run_command("status", "abc", "--address", "http://127.0.0.1:8265"), "ungan-dist: no Jobs API\n")


def test_runs_before_any_run_asks_for_the_output_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run_command("runs"), "there is no folder 'runs' here", "ungan-dist runs DIR")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shadows.num-models", "7"], ["even", "7"]),
        (["--split.forget-fraction", "0"], ["forget_fraction", "0"]),
        (["--split.forget-fraction", "1"], ["forget_fraction", "1"]),
        (["--split.train", "100", "--split.shadow-pool", "100"], ["retain examples", "80", "100"]),
        (["--split.train", "10000", "--split.shadow-pool", "10000"], ["20151", "1797"]),
        (["--train.augment.padding", "8"], ["padding", "8 × 8"]),
        (["--train.learning-rate", "nan"], ["learning_rate", "nan"]),
        (["--train.learning-rate", "inf"], ["learning_rate", "inf"]),
        (["--shadows.seed", "-1"], ["shadows.seed", "-1"]),
        (["--shadows.num-models", "2"], ["num_models", "2", "4"]),
        (["--execution.run-name", "shadows"], ["run_name", "shadows"]),
        (["--source.kind", "parquet", "--source.path", "/nowhere"], ["/nowhere"]),
    ],
)
def test_bad_values_are_refused_and_nothing_is_written(tmp_path: Path, options: list[str], words: list[str]) -> None:
    output = tmp_path / "out"
    assert_refused(run_command("run", "digits", "--output", output, *options), *words)
    assert not output.exists()


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and then nothing")
    output = tmp_path / "out"
    result = run_command("run", "cifar10-small", "--source.path", tmp_path, "--output", output)
    assert_refused(result, "train.parquet")
    assert not output.exists()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "read-only"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a read-only file system: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_folder_that_cannot_be_written_is_refused(read_only: Path, tmp_path: Path) -> None:
    assert_refused(run_command("run", "digits", *SMALL_OPTIONS, "--output", read_only), str(read_only), "--output")
    (tmp_path / "file").write_text("in the way")
    assert_refused(run_command("run", "digits", *SMALL_OPTIONS, "--output", tmp_path / "file"), "--output")


def test_importing_the_package_imports_no_heavy_library() -> None:
    heavy = "torch", "ray", "triton", "ffcv", "matplotlib", "numpy"
    code = f"import sys, ungan_dist, ungan_dist.config.recipes; print([n for n in {heavy} if n in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"
