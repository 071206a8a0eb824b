"""One critic step under NVIDIA's compute-sanitizer, which finds reads and writes outside of buffers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from gpu_parts.session import Session

NAME = "critic update under compute-sanitizer"
FOUND = 9
"""Exit code of the sanitizer if it has found an error."""


def check_critic(session: Session) -> None:
    """Append whether the sanitizer has found an error; that of the rehearsal looks for none."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if sanitizer is None:
        session.append(NAME, left_out="compute-sanitizer is not installed")
        return
    width, batch = session.pick((128, 256), (8, 4))
    code = f"from gpu_parts.memcheck import take_step; take_step({width}, {batch}, {session.device!r})"
    command = [sanitizer, "--tool", "memcheck", "--error-exitcode", str(FOUND)]
    command += [sys.executable, "-W", "ignore", "-c", code]
    with session.attempt(NAME):
        done = subprocess.run(
            command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=session.seconds_left
        )
        print(done.stdout, done.stderr)
        if done.returncode:
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise RuntimeError(f"exit code {done.returncode}: {' '.join(last)}")
        session.append(NAME, found="no error")


def take_step(width: int, batch: int, device: str) -> None:
    """Take one fused critic update."""
    from kernel_steps import critic_update

    loss, *_ = critic_update("fused", width, batch, device)()
    float(loss)
