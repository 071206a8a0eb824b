"""The steps of a Dockerfile, run in a clean root without Docker: FROM is Debian with the base image's Python and Ray.

    python tests/helpers/image_root.py FOLDER

Debian 12 has the Python of the base image, 3.11; the base itself, which is Ubuntu with Anaconda, cannot be had here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "cluster/manifests/image/Dockerfile"
PYTHON = "/home/ray/anaconda3"
"""Where the base image has its Python."""
_BASE = f"""
useradd --create-home --uid 1000 --gid 100 ray
su ray -c 'python3 -m venv {PYTHON} && {PYTHON}/bin/pip install -q --no-cache-dir "ray[default]=={{ray}}"'
"""
_ENTER = """
mount -t proc proc {root}/proc && mount --rbind /dev {root}/dev
exec chroot --userspec={user} {root} sh -c {script}
"""


@dataclass(kw_only=True)
class ImageRoot:
    """A folder that becomes the file system of an image, and the settings that its steps have made."""

    folder: Path
    user: str = "0"
    place: str = "/"
    variables: dict[str, str] = field(default_factory=dict)

    def make_base(self, image: str) -> None:
        """Make the root of ``rayproject/ray:VERSION-py311-cpu``.

        Raises:
            ValueError: Another base image.
        """
        found = re.fullmatch(r"rayproject/ray:([\d.]+)-py311-cpu", image)
        if found is None:
            raise ValueError(f"no base for {image}")
        packages = "ca-certificates,python3,python3-venv"
        command = ["debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(self.folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        self.folder.chmod(0o755)  # it may be a temporary folder, which only its owner enters
        for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
            shutil.copy(f"/{name}", self.folder / name)
        self.run(_BASE.format(ray=found[1]))
        self.variables["PATH"] = f"{PYTHON}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def run(self, script: str) -> str:
        """Run a shell script as the image's present user, in its present folder, and return what it prints.

        Raises:
            RuntimeError: It failed, with its output.
        """
        home = "/root" if self.user == "0" else "/home/ray"
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        enter = _ENTER.format(
            root=shlex.quote(str(self.folder)),
            user=f"{self.user}:{0 if self.user == '0' else 100}",
            script=shlex.quote(f"cd {shlex.quote(self.place)} && {script.strip()}"),
        )
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", enter],
            env={"PATH": path, "HOME": home, "LANG": "C.UTF-8", **kept, **self.variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def copy(self, words: list[str]) -> None:
        """Copy files of the repository, less what the image's .dockerignore excludes everywhere."""
        owner, *sources, target = words
        user, group = map(int, owner.removeprefix("--chown=").split(":"))
        for source in sources:
            there = self.folder / self.place.lstrip("/") / target
            there = there / source if target.endswith(("./", ".")) else there
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / source, there, symlinks=True, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(ROOT / source, there)
            for path in (there, *there.rglob("*")):
                os.chown(path, user, group, follow_symlinks=False)

    def follow(self, instruction: str, rest: str) -> None:
        """Carry out one instruction of a Dockerfile.

        Raises:
            ValueError: It is not known here.
        """
        match instruction:
            case "FROM":
                self.make_base(rest)
            case "USER":
                self.user = rest
            case "WORKDIR":
                self.place = rest
                # Docker's older builder gives the folder to root, whoever the user is
                self.run_as_root(f"mkdir -p {rest}")
            case "COPY":
                self.copy(rest.split())
            case "RUN":
                self.run(rest)
            case "ENV":
                self.variables |= dict(word.split("=", 1) for word in shlex.split(rest))
            case _:
                raise ValueError(f"{instruction} is not known here")

    def run_as_root(self, script: str) -> None:
        """Run a script as root of the image, in its root folder."""
        ImageRoot(folder=self.folder, variables=self.variables).run(script)


def list_instructions(text: str) -> Iterator[tuple[str, str]]:
    """List the instructions of a Dockerfile, without comments and with continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if line.strip():
            instruction, _, rest = line.partition(" ")
            yield instruction, rest.strip()


def build(folder: Path) -> ImageRoot:
    """Build the image's root in an empty folder."""
    image = ImageRoot(folder=folder)
    for instruction, rest in list_instructions(DOCKERFILE.read_text()):
        print(instruction, rest[:100], flush=True)
        image.follow(instruction, rest)
    return image


if __name__ == "__main__":
    made = build(Path(sys.argv[1]))
    print(made.run("ungan-dist recipes"))
