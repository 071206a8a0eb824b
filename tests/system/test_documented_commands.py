"""Run every command of the documentation as it is written, in a fresh home folder and a copy of the clone.

`tests/helpers/documented_commands.py` lists what is left out, substituted or added, with reasons.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from documented_commands import (
    ADDITIONS,
    PROGRAMS,
    ROOT,
    SKIPPED,
    STUBS,
    SUBSTITUTIONS,
    Command,
    Rule,
    list_commands,
)
from own_machine import require_namespaces, run_on_own_machine
from picture_files import encode, random_pictures, write_parquet
from PIL import Image
from slurm_stubs import DRIVER, HOSTNAME, RAY, SCONTROL, SRUN, write_program

from ungan_dist.commands.options import recipe_config
from ungan_dist.data.sources.cifar import CIFAR10_CLASSES

pytestmark = pytest.mark.chaos  # all of them take several minutes

COMMANDS = list_commands()
RUN = [command for command in COMMANDS if not command.skipped]
HERE = [command for command in RUN if not command.needs_cluster]
ON_CLUSTER = [command for command in RUN if command.needs_cluster]
# all pages use the cluster that docs/clusters.md starts, and its token
ON_CLUSTER.sort(
    key=lambda command: (command.text == "ray stop", command.text.startswith("rm "), command.page == "README.md")
)


# another run of these pages shares the prepared data, which therefore remain
EXIT_CODES = {"ungan-dist purge RUN --dry-run": 3, "ungan-dist purge RUN": 3}


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
STORAGE = """
python -c 'import moto.server; moto.server.main()' -H 127.0.0.1 -p 5000 > "$HOME/moto.log" 2>&1 &
python - << 'END'
import time
from pyarrow import fs

there = fs.S3FileSystem(endpoint_override="http://127.0.0.1:5000", allow_bucket_creation=True)
for attempt in range(300):
    try:
        there.create_dir("bucket")
        break
    except OSError:
        time.sleep(0.2)
END
"""
SERVICE = """\
#!/bin/bash
# print the input if it is a pipe
for word in "$@"; do [[ $word != - ]] || cat; done
[[ "$*" != "get secret"* ]] || base64 < ~/.ray/auth_token
"""
SBATCH = """\
#!/bin/bash
# run the batch file as the first node of four does, with stubs of Slurm's and Ray's own programs
while [[ $1 == --* ]]; do shift; done
SLURM_JOB_ID=4217 SLURM_JOB_NODELIST='node[1-4]' SLURM_JOB_NUM_NODES=4 SLURM_CPUS_ON_NODE=16 SLURM_GPUS_ON_NODE=8 \
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
    """Write what a reader brings: CIFAR-10, pictures, lists, a model, its weights, and `make_toy.py` of the page."""
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
    (clone / "mypackage").mkdir()
    (clone / "mypackage/models.py").write_text(MODEL)
    page = (ROOT / "docs/own-model.md").read_text()
    (clone / "make_toy.py").write_text(next(text for text in re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)))

    from safetensors.numpy import save_file

    for seed, name in enumerate(("weights", "unlearned")):
        weights = np.random.default_rng(seed).normal(0, 0.01, (2, 768)).astype(np.float32)
        save_file({"1.weight": weights, "1.bias": np.zeros(2, np.float32)}, clone / f"{name}.safetensors")


def make_stubs(home: Path) -> None:
    """Write the programs for which there is no service here."""
    for folder in ("stubs", "stubs/slurm", "stubs/venv/bin"):
        (home / folder).mkdir(parents=True)
    for name in STUBS:
        write_program(home / "stubs", name, SBATCH if name == "sbatch" else SERVICE)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "hostname": HOSTNAME}.items():
        write_program(home / "stubs/slurm", name, text)
    write_program(home / "stubs/venv/bin", "ray", RAY)
    write_program(home / "stubs/venv/bin", "ungan-dist", DRIVER)


def run_steps(home: Path, commands: list[Command], *, before: str = "") -> dict[str, Outcome]:
    require_namespaces()
    make_clone(home)
    make_files(home)
    make_stubs(home)
    steps = [f"step {number} {shlex.quote(command.executed)}" for number, command in enumerate(commands)]
    done = run_on_own_machine("\n".join([STEP, before, *steps]), home, timeout=900)
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, Outcome] = {}
    for number, command in enumerate(commands):
        code, stdout, stderr = ((home / f"steps/{number}.{kind}").read_text() for kind in ("code", "out", "err"))
        outcomes[command.text] = Outcome(code=int(code), stdout=stdout, stderr=stderr)
    return outcomes


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_steps(tmp_path_factory.mktemp("here"), HERE)


@pytest.fixture(scope="module")
def cluster_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def there(cluster_home: Path) -> dict[str, Outcome]:
    return run_steps(cluster_home, ON_CLUSTER, before=STORAGE)


def select(commands: list[Command], start: str) -> list[Command]:
    return [command for command in commands if command.text.startswith(start)]


def check(outcome: Outcome, *, code: int = 0) -> None:
    assert outcome.code == code, outcome.stdout[-3000:] + outcome.stderr[-3000:]
    assert "Traceback" not in outcome.stdout + outcome.stderr


@pytest.mark.process
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("command", HERE, ids=lambda command: command.text)
def test_a_command_runs_on_one_machine(here: dict[str, Outcome], command: Command) -> None:
    check(here[command.text], code=EXIT_CODES.get(command.text, 0))


@pytest.mark.ray
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("command", ON_CLUSTER, ids=lambda command: command.text)
def test_a_command_runs_on_a_cluster(there: dict[str, Outcome], command: Command) -> None:
    check(there[command.text])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_every_command_is_run_or_left_out_with_a_reason(command: Command) -> None:
    assert command.skipped or re.match(rf"(?:{PROGRAMS}|mkdir) ", command.text), (
        f"{command.page}: {command.text!r} is new: add its program to PROGRAMS, or a reason to SKIPPED"
    )


@pytest.mark.parametrize("rule", [*SKIPPED, *SUBSTITUTIONS, *ADDITIONS], ids=lambda rule: rule.pattern)
def test_every_rule_is_needed(rule: Rule) -> None:
    assert any(re.search(rule.pattern, command.text) for command in COMMANDS)


@pytest.mark.ray
@pytest.mark.timeout(1000)
@pytest.mark.parametrize(
    "command",
    [command for command in ON_CLUSTER if command.text.startswith("sbatch")],
    ids=lambda command: command.text,
)
def test_the_batch_file_passes_every_word_to_the_driver(there: dict[str, Outcome], command: Command) -> None:
    words = shlex.split(command.text)
    recipe, output, *options = words[words.index("cluster/manifests/slurm/audit.sbatch") + 1 :]
    given = there[command.text].stdout.splitlines()
    given = given[given.index("run") :]
    assert given[:5] == ["run", recipe, "--output", output, "--cluster"]
    assert given[6:] == options
    assert recipe_config(given[1:], command="run").output == output


@pytest.mark.ray
@pytest.mark.timeout(1000)
@pytest.mark.parametrize(
    "command",
    [command for command in ON_CLUSTER if "manifest kuberay" in command.text],
    ids=lambda command: command.text,
)
def test_the_manifest_runs_the_words_of_its_command(there: dict[str, Outcome], command: Command) -> None:
    job = yaml.safe_load(there[command.text].stdout)
    assert (job["kind"], job["metadata"]["name"]) == ("RayJob", "ungan-paper")
    assert job["spec"]["entrypoint"].startswith("python -m ungan_dist run paper ")
    for option in re.findall(r"--source.path \S+", command.text):
        assert option in job["spec"]["entrypoint"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_files_of_the_repository_exist(command: Command) -> None:
    for word in re.findall(r"(?<![\w/.])cluster/\S+", command.text):
        assert (ROOT / word.split(":")[0]).is_file(), word
