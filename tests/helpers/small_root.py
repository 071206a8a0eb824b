"""A small disk of a host: a root folder of its own for some of its programs, with all other folders of the host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hosts import Host

ROOT = "/srv"
INSIDE = f"chroot {ROOT}"
"""What starts a command that has the small disk as its root, and Ray's files on it."""
_MAKE = f"""
set -e
mkdir -p /tmp/ray
mount -t tmpfs -o size=200m tmpfs {ROOT}
for path in /*; do
  if [ -L $path ]; then cp -P $path {ROOT}
  elif [ -d $path ] && [ $path != {ROOT} ]; then mkdir {ROOT}$path; mount --rbind $path {ROOT}$path
  fi
done
mkdir {ROOT}/ray
mount --bind {ROOT}/ray {ROOT}/tmp/ray
"""


def make_small_root(host: Host) -> None:
    """Make the small disk, once after each start of the host."""
    host.run(_MAKE)


@contextlib.contextmanager
def nearly_filling(host: Host, folder: str = ROOT) -> Iterator[None]:
    """Leave 7 % of a disk free, within the context: of the small one, or of that which a folder is on."""
    host.run(
        f"size=$(df --output=size -B1 {folder} | tail -1); free=$(df --output=avail -B1 {folder} | tail -1); "
        f"fallocate -l $((free - size * 7 / 100)) {folder}/full"
    )
    try:
        yield
    finally:
        host.run(f"rm {folder}/full")
