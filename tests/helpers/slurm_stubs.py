"""Programs that stand for Slurm, Ray and the driver: in the documented commands, and for what needs no Ray."""

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
printf '%s\\n' localhost localhost
"""
RAY = """\
#!/bin/bash
# like `ray symmetric-run`: run the command after -- on the head alone, and exit with 0 if Ray itself failed
[[ ${SLURM_PROCID:-0} == 0 ]] || exec sleep 600
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
# in its first start it may work until it is stopped
if [[ -n ${DRIVER_WORKS:-} && ${SLURM_RESTART_COUNT:-0} == 0 ]]; then
  trap 'kill %1; exit 3' TERM
  touch "$STUBS/works"
  sleep 600 &
  wait $!
fi
exit "${DRIVER_CODE:-0}"
"""


def write_program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
