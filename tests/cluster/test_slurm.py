"""The Slurm batch file: shellcheck, and runs with a stub of Slurm, one of them with real Ray."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_stubs import DRIVER, HOSTNAME, RAY, SCONTROL, SRUN, write_program
from small_audit import SMALL_OPTIONS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster/manifests/slurm/audit.sbatch"
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a batch job on two nodes, with stubs for Slurm, Ray and the driver."""
    stubs, venv, home = tmp_path / "stubs", tmp_path / "venv/bin", tmp_path / "home"
    for folder in (stubs, venv, home):
        folder.mkdir(parents=True)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "hostname": HOSTNAME}.items():
        write_program(stubs, name, text)
    write_program(venv, "ray", RAY)
    write_program(venv, "ungan-dist", DRIVER)
    return {
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "HOME": str(home),
        "STUBS": str(stubs),
        "VENV": str(venv.parent),
        "SLURM_JOB_ID": "4217",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_ON_NODE": "16",
        "SLURM_GPUS_ON_NODE": "8",
        "RAY_AUTH_TOKEN": "token of another cluster",
    }


def run_batch(environment: dict[str, str], *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def run_shellcheck(text: str, tmp_path: Path) -> list[dict[str, object]]:
    checker = SCRIPTS / "shellcheck"
    if not checker.exists():
        pytest.skip("shellcheck is not installed: make setup")
    path = tmp_path / "script.sh"
    path.write_text(text)
    done = subprocess.run([checker, "--format=json", "--enable=all", "--exclude=SC2250,SC2310,SC2312", path],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    return json.loads(done.stdout)


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    assert run_shellcheck(SCRIPT.read_text(), tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ('"$output" --cluster', "$output --cluster", 2086),
        ("# shellcheck disable=SC2016  # expanded by the shell on the head node\n", "", 2016),
        ('$(< "$UNGAN_EXIT_FILE")"', '$(< "$UNGAN_EXIT_FIL")"', 2154),
        ("if [[ ! -s $UNGAN_EXIT_FILE ]]; then", "if [[ ! -s $UNGAN_EXIT_FILE ]]", 1049),
    ],
)
def test_shellcheck_catches_a_mutant(tmp_path: Path, old: str, new: str, code: int) -> None:
    text = SCRIPT.read_text()
    assert old in text
    assert code in [finding["code"] for finding in run_shellcheck(text.replace(old, new), tmp_path)]


def test_slurms_options_precede_the_first_command() -> None:
    lines = SCRIPT.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    options = dict(re.findall(r"#SBATCH --([a-z-]+)=?(\S*)", "\n".join(lines[:first])))
    assert {"job-name", "nodes", "ntasks-per-node", "exclusive", "time", "output"} == set(options)
    assert options["ntasks-per-node"] == "1"
    assert not re.search("#SBATCH", "\n".join(lines[first:]))


def test_ray_starts_on_every_node_and_the_driver_on_the_first(slurm: dict[str, str]) -> None:
    done = run_batch(slurm, "paper", "/shared/runs", "--num-seeds", "3", "--execution.run-name", "with a space")
    assert done.returncode == 0, done.stderr
    stubs = Path(slurm["STUBS"])
    address = f"127.0.0.1:{20000 + 4217}"
    ray = (stubs / "ray.log").read_text().splitlines()
    assert ray[:5] == ["symmetric-run", "--address", address, "--min-nodes", "2"]
    assert ray[5:8] == ["--num-cpus=16", "--num-gpus=8", "--"]
    assert (stubs / "driver.log").read_text().splitlines() == [
        *("run", "paper", "--output", "/shared/runs", "--cluster", address),
        *("--num-seeds", "3", "--execution.run-name", "with a space"),
    ]
    find, start = (stubs / "srun.log").read_text().splitlines()
    assert "--nodelist=node1 hostname" in find
    assert start.startswith("--nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=16 ray symmetric-run")


def test_each_job_has_a_private_token(slurm: dict[str, str]) -> None:
    tokens = set()
    for _ in range(2):
        assert run_batch(slurm, "digits", "/shared/runs").returncode == 0
        stubs = Path(slurm["STUBS"])
        token = (stubs / "token").read_text()
        environment = (stubs / "ray.env").read_text()
        assert re.fullmatch("[0-9a-f]{64}", token)
        assert token not in environment
        assert "RAY_AUTH_MODE=token\n" in environment
        assert "token of another cluster" not in environment
        assert (stubs / "modes").read_text().split() == ["600", "700"]
        tokens.add(token)
    assert len(tokens) == 2
    assert list(Path(slurm["HOME"]).iterdir()) == []


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_the_exit_code_is_the_drivers(slurm: dict[str, str], code: int) -> None:
    assert run_batch({**slurm, "DRIVER_CODE": str(code)}, "digits", "/shared/runs").returncode == code


def test_a_failed_start_of_ray_is_a_failure(slurm: dict[str, str]) -> None:
    done = run_batch({**slurm, "RAY_FAILS": "1"}, "digits", "/shared/runs")
    assert done.returncode == 1
    assert "the driver did not finish" in done.stderr
    assert list(Path(slurm["HOME"]).iterdir()) == []


def test_missing_arguments_print_the_usage(slurm: dict[str, str]) -> None:
    for arguments in ([], ["digits"]):
        done = run_batch(slurm, *arguments)
        assert done.returncode != 0
        assert "usage: sbatch audit.sbatch RECIPE OUTPUT" in done.stderr


@pytest.fixture
def short_folder() -> Iterator[str]:
    """Create a short folder, because the paths of Ray's sockets are limited to 107 characters."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        yield folder


@pytest.mark.timeout(240)
@pytest.mark.ray
def test_an_audit_with_real_ray_on_one_node_writes_its_table(
    slurm: dict[str, str], tmp_path: Path, short_folder: str
) -> None:
    # a process table of its own: `ray symmetric-run` refuses a node with another Ray process
    apart = ["unshare", "--pid", "--fork", "--mount-proc"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("unshare cannot create a process table here")
    venv = tmp_path / "real/bin"
    venv.mkdir(parents=True)
    for name in ("ray", "ungan-dist", "python3"):
        (venv / name).symlink_to(SCRIPTS / name)
    environment = {
        **slurm,
        "VENV": str(venv.parent),
        "PATH": f"{slurm['STUBS']}:{SCRIPTS}:{os.environ['PATH']}",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_ON_NODE": "2",
        "SLURM_GPUS_ON_NODE": "0",
        "OMP_NUM_THREADS": "1",
        "RAY_TMPDIR": short_folder,
    }
    output = tmp_path / "runs"
    options = [*SMALL_OPTIONS, "--fleet.num-workers", "2"]
    command = [*apart, "bash", str(SCRIPT), "digits", str(output), *options]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    table = json.loads((output / "run/table.json").read_bytes())
    assert table["status"] == "COMPLETE"
    assert [row["method"] for row in table["rows"]] == ["original", "retrain", "ungan"]
