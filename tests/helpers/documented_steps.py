"""Run documented commands in a fresh home folder: the clone, the files that a reader brings, and stubs of services."""

from __future__ import annotations

import re
import shlex
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from documented_commands import ROOT, STUBS, Command
from own_machine import require_namespaces, run_on_own_machine
from picture_files import encode, random_pictures, write_parquet
from PIL import Image
from slurm_stubs import DRIVER, RAY, SCONTROL, SRUN, write_program

from ungan_dist.data.sources.cifar import CIFAR10_CLASSES


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command did."""

    code: int
    stdout: str
    stderr: str


STEP = """
export PLACE=$HOME/place STUBS=$HOME/stubs CIFAR10_PARQUET=$HOME/place/data/cifar10
export PATH=$STUBS:$PATH AWS_ENDPOINT_URL=http://127.0.0.1:5000 AWS_DEFAULT_REGION=us-east-1
export AWS_ACCESS_KEY_ID=nobody AWS_SECRET_ACCESS_KEY=nothing
cd "$HOME/clone"
step() {
  eval "$2" > "$HOME/steps/$1.out" 2> "$HOME/steps/$1.err" < /dev/null
  echo $? > "$HOME/steps/$1.code"
  found=$(grep -ohP '^job \\K[0-9a-f]+-\\d+(?=$|:)' "$HOME/steps/$1.out" | tail -1)
  ID=${found:-${ID:-}}
}
"""
SERVICE = """\
#!/bin/bash
# print the input if it is a pipe
for word in "$@"; do [[ $word != - ]] || cat; done
[[ "$*" != "get secret"* ]] || base64 < ~/.ray/auth_token
"""
SBATCH = """\
#!/bin/bash
# run the batch file as the first of four nodes does, or as an array's first task, with stubs of Slurm and Ray
while [[ $1 == --* ]]; do shift; done
SLURM_JOB_ID=4217 SLURM_JOB_NODELIST='node[1-4]' SLURM_JOB_NUM_NODES=4 SLURM_CPUS_ON_NODE=16 SLURM_GPUS_ON_NODE=8 \
SLURMD_NODENAME=node1 SLURM_ARRAY_TASK_ID=1 \
VENV=$STUBS/venv PATH=$STUBS/slurm:$PATH bash "$@" && cat "$STUBS/driver.log"
"""
MODEL = """
from torch import nn

def build(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(768, num_classes))
"""


def make_clone(home: Path) -> None:
    """Make a home folder with a copy of the clone, and the files that the pages tell the reader to have."""
    clone = home / "clone"
    clone.mkdir()
    for name in ("ungan_dist", "kernels", "cluster"):
        shutil.copytree(ROOT / name, clone / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", clone)
    (clone / ".venv").mkdir()
    (clone / ".venv/bin").symlink_to(sysconfig.get_path("scripts"))
    (home / "steps").mkdir()


def make_files(home: Path) -> None:
    """Write what a reader brings: CIFAR-10, pictures, lists, a model, its weights, and the scripts of the page."""
    clone, cifar = home / "clone", home / "place/data/cifar10"
    cifar.mkdir(parents=True)
    for name, count in (("train", 500), ("test", 100)):
        pictures = [encode(picture) for picture in random_pictures(count, seed=count)]
        labels = [number % 10 for number in range(count)]
        write_parquet(cifar / f"{name}.parquet", pictures, labels, names=list(CIFAR10_CLASSES))
    (clone / "cifar10").symlink_to(cifar)

    ids = [f"{name}/{number:03}.png" for name in ("cat", "dog") for number in range(150)]
    for id, pixels in zip(ids, random_pictures(len(ids), (16, 16, 3)), strict=True):
        path = clone / "pictures" / id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (clone / "forget.csv").write_text("\n".join(["id", *ids[:12]]))
    (clone / "trained_on.csv").write_text("\n".join(["id", *ids[:75], *ids[150:225]]))
    (clone / "audits.txt").write_text("digits\n")
    (clone / "mypackage").mkdir()
    (clone / "mypackage/models.py").write_text(MODEL)
    page = (ROOT / "docs/own-model.md").read_text()
    for name, text in re.findall(r"Save it as `(\w+\.py)`:\n\n```python\n(.*?)^```", page, re.S | re.M):
        (clone / name).write_text(text)
    method = re.search(r"^```python\n(.*?)^```", (ROOT / "docs/own-method.md").read_text(), re.S | re.M)
    assert method is not None
    (clone / "bad_teaching.py").write_text(method[1])

    from safetensors.numpy import save_file

    for seed, name in enumerate(("weights", "unlearned", "retrained")):
        weights = np.random.default_rng(seed).normal(0, 0.01, (2, 768)).astype(np.float32)
        save_file({"1.weight": weights, "1.bias": np.zeros(2, np.float32)}, clone / f"{name}.safetensors")


def make_stubs(home: Path) -> None:
    """Write the programs for which there is no service here."""
    for folder in ("stubs", "stubs/slurm", "stubs/venv/bin"):
        (home / folder).mkdir(parents=True)
    for name in STUBS:
        write_program(home / "stubs", name, SBATCH if name == "sbatch" else SERVICE)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        write_program(home / "stubs/slurm", name, text)
    write_program(home / "stubs/venv/bin", "ray", RAY)
    write_program(home / "stubs/venv/bin", "ungan-dist", DRIVER)


def run_steps(home: Path, commands: list[Command], *, before: str = "") -> dict[str, Outcome]:
    require_namespaces()
    make_clone(home)
    make_files(home)
    make_stubs(home)
    steps = [f"step {number} {shlex.quote(command.executed)}" for number, command in enumerate(commands)]
    done = run_on_own_machine("\n".join([STEP, before, *steps]), home, timeout=1400)
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, Outcome] = {}
    for number, command in enumerate(commands):
        code, stdout, stderr = ((home / f"steps/{number}.{kind}").read_text() for kind in ("code", "out", "err"))
        outcomes[command.text] = Outcome(code=int(code), stdout=stdout, stderr=stderr)
    return outcomes


def check(outcome: Outcome, *, code: int = 0) -> None:
    """Assert that a command ended with this code and without a traceback."""
    assert outcome.code == code, outcome.stdout[-3000:] + outcome.stderr[-3000:]
    assert "Traceback" not in outcome.stdout + outcome.stderr
