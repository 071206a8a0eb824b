"""Run every command of the pages that needs a cluster, as it is written, in a fresh home folder.

They need Ray's default ports, so they run on a machine of their own, beside other tests.
"""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from documented_commands import Command, list_commands
from documented_steps import Outcome, check, run_steps

from ungan_dist.commands.options import recipe_config

pytestmark = [pytest.mark.process, pytest.mark.timeout(1500)]

# all pages use the cluster that docs/clusters.md starts, and its token
COMMANDS = sorted(
    (command for command in list_commands() if not command.left_out and command.needs_cluster),
    key=lambda command: (command.text == "ray stop", command.text.startswith("rm "), command.page == "README.md"),
)
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


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    return run_steps(tmp_path_factory.mktemp("home"), COMMANDS, before=STORAGE)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_a_command_runs_as_it_is_written(outcomes: dict[str, Outcome], command: Command) -> None:
    check(outcomes[command.text])


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if "slurm/audit.sbatch" in command.text],
    ids=lambda command: command.text,
)
def test_the_batch_file_passes_every_word_to_the_driver(outcomes: dict[str, Outcome], command: Command) -> None:
    words = shlex.split(command.text)
    recipe, output, *options = words[words.index("cluster/manifests/slurm/audit.sbatch") + 1 :]
    given = outcomes[command.text].stdout.splitlines()
    given = given[given.index("run") :]
    assert given[:5] == ["run", recipe, "--output", output, "--cluster"]
    assert given[6:] == options
    assert recipe_config(given[1:], command="run").output == output


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if "manifest kuberay" in command.text],
    ids=lambda command: command.text,
)
def test_the_manifest_runs_the_words_of_its_command(outcomes: dict[str, Outcome], command: Command) -> None:
    job = yaml.safe_load(outcomes[command.text].stdout)
    assert (job["kind"], job["metadata"]["name"]) == ("RayJob", "ungan-paper")
    assert job["spec"]["entrypoint"].startswith("python -m ungan_dist run paper ")
    for option in re.findall(r"--source.path \S+", command.text):
        assert option in job["spec"]["entrypoint"]
