"""Programs that stand for Slurm, Ray and the driver when the batch file runs without Slurm."""

from __future__ import annotations

import stat
from pathlib import Path

SRUN = """\
#!/bin/bash
# run the command here as the first task of the step, after dropping Slurm's own options
echo "$*" >> "$STUBS/srun.log"
while [[ ${1:-} == -* ]]; do shift; done
exec "$@"
"""
SCONTROL = """\
#!/bin/bash
[[ $1 == show && $2 == hostnames && -n $3 ]] || exit 64
printf '%s\\n' node1 node2
"""
HOSTNAME = """\
#!/bin/bash
echo "127.0.0.1 192.0.2.1"
"""
RAY = """\
#!/bin/bash
# like `ray symmetric-run` on the head: run the command after --, and exit with 0 if Ray itself failed
printf '%s\\n' "$@" > "$STUBS/ray.log"
env > "$STUBS/ray.env"
stat -c %a "$RAY_AUTH_TOKEN_PATH" "$(dirname "$RAY_AUTH_TOKEN_PATH")" > "$STUBS/modes"
cp "$RAY_AUTH_TOKEN_PATH" "$STUBS/token"
[[ -n ${RAY_FAILS:-} ]] && exit 0
while [[ $1 != -- ]]; do shift; done
shift
exec "$@"
"""
DRIVER = """\
#!/bin/bash
printf '%s\\n' "$@" > "$STUBS/driver.log"
exit "${DRIVER_CODE:-0}"
"""


def write_program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
