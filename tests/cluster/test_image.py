"""The image's Dockerfile: hadolint, our rules, and faults that they must find. No container is built."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "cluster/manifests/image/Dockerfile"
RAY = metadata.version("ray")


def run_hadolint(text: str, tmp_path: Path) -> str:
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    if not program.exists():
        pytest.skip("hadolint is not installed: make setup")
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    done = subprocess.run(
        [program, "--no-color", "--failure-threshold", "style", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode in (0, 1)
    assert bool(done.returncode) == bool(done.stdout.strip())
    return done.stdout


def find_faults(text: str) -> list[str]:
    """List violations of our rules: locked Ray, token mode, locked packages, an ordinary user, existing files."""
    found = []
    if re.findall(r"^FROM (\S+)", text, re.MULTILINE) != [f"rayproject/ray:{RAY}-py311-cpu"]:
        found.append("base")
    if set(re.findall(r"ungan-dist:(\S+)", text)) != {RAY} or f'"{RAY}"' not in text:
        found.append("tag")
    if "RAY_AUTH_MODE=token" not in text:
        found.append("token")
    if "--constraint requirements.lock" not in text:
        found.append("lock")
    users = re.findall(r"^USER (\S+)", text, re.MULTILINE)
    if not users or users[-1] in ("0", "root"):
        found.append("user")
    copied = [word for line in re.findall(r"^COPY (.+)", text, re.MULTILINE) for word in line.split()[1:-1]]
    if not copied or not all((ROOT / word).exists() for word in copied):
        found.append("copy")
    return found


def test_the_image_has_no_faults(tmp_path: Path) -> None:
    assert run_hadolint(DOCKERFILE.read_text(), tmp_path) == ""
    assert find_faults(DOCKERFILE.read_text()) == []


def test_the_lock_pins_the_installed_ray() -> None:
    assert f"ray=={RAY}\n" in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        (f"ray:{RAY}-py311-cpu", "ray:2.59.0-py311-cpu", "base"),
        (f"ray:{RAY}-py311-cpu", "ray:latest", "base"),
        (f"ungan-dist:{RAY}", "ungan-dist:latest", "tag"),
        ("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled", "token"),
        (" --constraint requirements.lock", "", "lock"),
        ("USER 1000", "", "user"),
        ("COPY --chown=1000:100 kernels", "COPY --chown=1000:100 kernel", "copy"),
    ],
)
def test_our_rules_find_a_fault(old: str, new: str, rule: str) -> None:
    text = DOCKERFILE.read_text()
    assert old in text
    assert rule in find_faults(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (f"ray:{RAY}-py311-cpu", "ray:latest", "DL3007"),
        (" --no-cache-dir", "", "DL3042"),
        ("# hadolint ignore=DL3008\n", "", "DL3008"),
        ("WORKDIR /home/ray/ungan_dist", "WORKDIR ungan_dist", "DL3000"),
        ("RUN apt-get", "RUN sudo apt-get", "DL3004"),
        ("FROM ", "FORM ", "DL"),
    ],
)
def test_hadolint_finds_a_fault(tmp_path: Path, old: str, new: str, code: str) -> None:
    text = DOCKERFILE.read_text()
    assert old in text
    found = run_hadolint(text.replace(old, new), tmp_path)
    assert code in found or (code == "DL" and "unexpected" in found)


def test_the_dockerignore_admits_exactly_the_copied_files() -> None:
    seen = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
    assert "*" in seen
    lines = re.findall(r"^COPY (.+)", DOCKERFILE.read_text(), re.MULTILINE)
    for name in (word for line in lines for word in line.split()[1:-1]):
        assert f"!{name}" in seen
    assert not {"!runs", "!tests", "!.git"} & set(seen)
