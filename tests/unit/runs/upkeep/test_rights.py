"""Files of runs that other users can read are found, and closed or shared by the commands that the pages give."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ungan_dist.runs.upkeep.doctor import CHECKS, Problem, check_rights
from ungan_dist.runs.upkeep.rights import find_open_entries

SECURITY = Path(__file__).parents[4] / "SECURITY.md"


@pytest.fixture
def reachable(finished_run: Path) -> Iterator[Path]:
    """An output folder that others can enter, with every file and folder as a umask of 022 leaves it."""
    # pytest closes its own folder again whenever it starts
    with tempfile.TemporaryDirectory(dir="/tmp") as above:
        output = Path(above, "runs")
        shutil.copytree(finished_run, output)
        for path in (Path(above), output, *output.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        yield output


def names(output: Path) -> list[str]:
    return [path.name for path in find_open_entries(output)]


def test_runs_of_this_version_are_closed(reachable: Path, finished_run: Path) -> None:
    for path in finished_run.rglob("*"):
        (reachable / path.relative_to(finished_run)).chmod(path.stat().st_mode)
    assert names(reachable) == []
    assert check_rights(reachable)


def test_every_folder_of_an_older_version_is_found(reachable: Path) -> None:
    assert names(reachable) == ["data", "shadows", "run"]
    (reachable / "run").chmod(0o700)
    assert names(reachable) == ["data", "shadows"]
    reachable.chmod(0o700)
    assert names(reachable) == [], "what a closed folder holds cannot be reached"


@pytest.mark.parametrize("file", ["config.json", "log_odds/0/original.npy", "models/0/original.safetensors"])
@pytest.mark.parametrize(("mode", "is_open"), [(0o644, True), (0o604, True), (0o640, True), (0o600, False)])
def test_one_open_file_is_enough(reachable: Path, file: str, mode: int, is_open: bool) -> None:
    for path in reachable.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
    assert names(reachable) == []
    (reachable / "run" / file).chmod(mode)
    assert names(reachable) == (["run"] if is_open else [])


def test_the_documented_commands_close_and_share(reachable: Path) -> None:
    text = SECURITY.read_text()
    (close,) = re.findall(r"`(chmod -R go= RUN)`", text)
    (share,) = re.findall(r"`(chmod -R g=u,o= DIR && find DIR [^`]*)`", text)
    with pytest.raises(Problem, match=r"other users can read files of .*/data and 2 more"):
        check_rights(reachable)
    assert close.replace("RUN", "FOLDER") in next(check.remedy for check in CHECKS if check.name == "rights")
    subprocess.run(["bash", "-ec", close.replace("RUN", str(reachable / "run"))], check=True)
    assert names(reachable) == ["data", "shadows"]
    subprocess.run(["bash", "-ec", share.replace("DIR", str(reachable))], check=True)
    assert names(reachable) == []
    modes = [oct(path.stat().st_mode)[-4:] for path in (reachable / "data", reachable / "run/config.json")]
    assert modes == ["2770", "0660"]
    # a folder that a group shares, and a file in it that is open to all
    next((reachable / "shadows").glob("*.npy")).chmod(0o664)
    assert names(reachable) == []
    for folder in (reachable, reachable / "shadows"):
        folder.chmod(0o2775)
    assert names(reachable) == ["shadows"]
