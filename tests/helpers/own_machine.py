"""A machine of its own for a test: new process, network and mount namespaces, in which Ray's default ports are free."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ISOLATED = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
_ENTER = """
ip link set lo up
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray
cd "$HOME" && exec bash "$0" "$@"
"""


def require_namespaces() -> None:
    """Skip the test, with the reason, if this user may not create namespaces."""
    if not shutil.which("ip"):
        reason = "the program ip is missing: install iproute2"
    else:
        tried = subprocess.run([*ISOLATED, "true"], capture_output=True, text=True)
        if not tried.returncode:
            return
        reason = f"unshare cannot create a namespace of the network: {tried.stderr.strip()}"
    pytest.skip(reason)


def make_environment(home: Path, **variables: str) -> dict[str, str]:
    """Make the environment of a user with a home folder: this one's programs, and none of its Ray, token or tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "PYTEST", "PYTHON"))}
    return kept | {
        "HOME": str(home),
        "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        **variables,
    }


def run_on_own_machine(
    script: str, home: Path, *, timeout: float, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a bash script as a user with a new home folder; its processes end with it.

    Args:
        script: bash; ``ungan-dist``, ``ray`` and ``python`` are those of this environment.
        home: the home folder, which is also the first current folder.
        timeout: in seconds.
        variables: of the environment, which else has none of Ray's and no token.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        return subprocess.run(
            [*ISOLATED, "bash", "-ec", _ENTER, file.name],
            env=make_environment(home, **variables),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
