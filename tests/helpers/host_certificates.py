"""Certificates of ``ungan-dist tls`` for hosts in namespaces."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hosts import SUBNET, Host
from in_process import run_command


def make_certificates(authority: Path, names: Sequence[str]) -> None:
    """Make an authority and the certificates of hosts, whose names are in the order of their addresses."""
    hosts = [f"--host={name}={SUBNET}{number}" for number, name in enumerate(names, start=1)]
    done = run_command("tls", authority, *hosts)
    assert done.returncode == 0, done.stderr


def copy_certificate(authority: Path, host: Host) -> None:
    """Copy a host's files to it, as the command's output says."""
    place = host.home / ".ray/tls"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(authority / host.name, place)
