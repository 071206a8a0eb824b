"""The text of the Slurm batch files: shellcheck, mutants that it must find, and Slurm's own options."""

from __future__ import annotations

import json
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster/manifests/slurm"
SCRIPT = FOLDER / "audit.sbatch"
NAMES = ("array.sbatch", "audit.sbatch")
SCRIPTS = Path(sysconfig.get_path("scripts"))


def run_shellcheck(text: str, tmp_path: Path) -> list[dict[str, object]]:
    checker = SCRIPTS / "shellcheck"
    if not checker.exists():
        pytest.skip("shellcheck is not installed: make setup")
    path = tmp_path / "script.sh"
    path.write_text(text)
    done = subprocess.run([checker, "--format=json", "--enable=all", "--exclude=SC2250,SC2310,SC2312", path],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    return json.loads(done.stdout)


def test_every_batch_file_is_checked() -> None:
    assert tuple(sorted(path.name for path in FOLDER.iterdir())) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_shellcheck_finds_nothing(tmp_path: Path, name: str) -> None:
    assert run_shellcheck((FOLDER / name).read_text(), tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"$output" --cluster', "$output --cluster", 2086),
        ("# shellcheck disable=SC2016  # expanded by the shell on the head node\n", "", 2016),
        ('code=$(< "$state/exit")', 'code=$(< "$stat/exit")', 2154),
        ("if [[ -s $state/exit ]]; then", "if [[ -s $state/exit ]]", 1049),
    ],
)
def test_shellcheck_catches_a_mutant(tmp_path: Path, old: str, new: str, code: int) -> None:
    text = SCRIPT.read_text()
    assert old in text
    assert code in [finding["code"] for finding in run_shellcheck(text.replace(old, new), tmp_path)]


@pytest.mark.parametrize("name", NAMES)
def test_slurms_options_precede_the_first_command(name: str) -> None:
    lines = (FOLDER / name).read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    options = dict(re.findall(r"#SBATCH --([a-z-]+)=?(\S*)", "\n".join(lines[:first])))
    assert {"job-name", "nodes", "time", "requeue", "signal", "open-mode", "output"} <= set(options)
    assert not re.search("#SBATCH", "\n".join(lines[first:]))
