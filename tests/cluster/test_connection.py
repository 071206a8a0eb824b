"""`--cluster` on a machine that is shared with a stranger: a real cluster of another user, with a token of its own."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass

import pytest
from own_machine import require_namespaces, run_on_own_machine

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

SCRIPT = """
umask 022
step() {
  local name=$1 code=0
  shift
  "$@" > "$HOME/$name.out" 2> "$HOME/$name.err" || code=$?
  echo "$code" > "$HOME/$name.code"
}
check() { python -c '
import sys
from pathlib import Path
from ungan_dist.cluster.doctor import check_cluster
for finding in check_cluster(sys.argv[1], Path("runs").absolute()):
    print(finding)
' "$@"; }

# the stranger may only read this test's files; his cluster has the default port
as_stranger=(setpriv --reuid=65534 --regid=65534 --clear-groups
  --inh-caps=+dac_override,+dac_read_search --ambient-caps=+dac_override,+dac_read_search env HOME="$STRANGER")
step generate "${as_stranger[@]}" ray get-auth-token --generate
step start "${as_stranger[@]}" RAY_AUTH_MODE=token ray start --head --num-cpus=1 --temp-dir="$STRANGER"

step auto check auto
ls -A "$HOME/.ray" > "$HOME/left.out" 2>&1 || true
step missing ungan-dist run digits --cluster 127.0.0.1:6379
mkdir "$HOME/.ray" && (umask 077; echo wrong > "$HOME/.ray/auth_token")
RAY_ADDRESS=127.0.0.1:6379 step named ungan-dist run digits --cluster auto
step submit ungan-dist submit digits --output "$HOME/runs"
cp "$STRANGER/.ray/auth_token" "$HOME/.ray/auth_token"
RAY_ADDRESS=127.0.0.1:6379 step joined check auto
chmod 644 "$HOME/.ray/auth_token"
step readable ungan-dist submit digits --output "$HOME/runs"
step readable_check check 127.0.0.1:6379
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Outcome of one command."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Step]:
    require_namespaces()
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("only root can start a cluster of another user")
    home = tmp_path_factory.mktemp("home")
    # short, because the paths of Ray's sockets are limited to 107 characters
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as stranger:
        os.chown(stranger, 65534, 65534)
        done = run_on_own_machine(SCRIPT, home, timeout=380, STRANGER=stranger)
    assert done.returncode == 0, done.stderr
    return {
        path.stem: Step(
            code=int(path.read_text()),
            stdout=path.with_suffix(".out").read_text(),
            stderr=path.with_suffix(".err").read_text(),
        )
        for path in home.glob("*.code")
    } | {"left": Step(code=0, stdout=(home / "left.out").read_text(), stderr="")}


def test_the_cluster_of_a_stranger_is_not_joined(steps: dict[str, Step]) -> None:
    assert steps["start"].code == 0, steps["start"].stderr
    auto = steps["auto"]
    assert set(re.findall(r"^\w+", auto.stdout, re.MULTILINE)) == {"ok"}, auto
    address = re.search(r"cluster: Ray answers at (\S+), started for this command; 1 nodes", auto.stdout)
    assert address, auto
    assert address.group(1) != "127.0.0.1:6379"
    assert "the Ray cluster at 127.0.0.1:6379 belongs to nobody and is not joined" in auto.stderr
    assert "InvalidAuthToken" not in auto.stderr
    assert "No such file" in steps["left"].stdout, "a token was left behind"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", ["RAY_AUTH_TOKEN and RAY_AUTH_TOKEN_PATH are not set, and", "/.ray/auth_token does not exist"]),
        ("named", ["refused access: the token in /", "/.ray/auth_token is wrong"]),
        ("submit", ["refused access: the token in /", "/.ray/auth_token is wrong"]),
        ("readable", ["has mode 0644", "Run: chmod 600 /"]),
    ],
)
def test_the_first_refusal_ends_the_command(steps: dict[str, Step], name: str, words: list[str]) -> None:
    step = steps[name]
    assert step.code == 2, step
    for word in words:
        assert word in step.stderr
    assert len(step.stderr.splitlines()) == 1, step.stderr


def test_a_token_opens_the_cluster_that_is_named(steps: dict[str, Step]) -> None:
    joined = steps["joined"]
    assert "Ray answers at 127.0.0.1:6379, named by RAY_ADDRESS; 1 nodes" in joined.stdout, joined
    assert re.search(r"^ok +token: in /\S+/.ray/auth_token, mode 0600$", joined.stdout, re.MULTILINE)
    assert re.search(r"^ok +authentication: token mode is on; .* refuses strangers$", joined.stdout, re.MULTILINE)


def test_the_doctor_finds_a_token_that_others_can_read(steps: dict[str, Step]) -> None:
    assert re.fullmatch(r"failure  token: .* has mode 0644.*chmod 600 .*\n", steps["readable_check"].stdout)
