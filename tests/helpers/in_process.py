"""Execute units and commands in the test's own process, because starting another takes seconds."""

from __future__ import annotations

import io
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from ungan_dist import cli
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.rehearsal import process
from ungan_dist.runs.rehearsal.perform import Findings, Rehearsal, perform
from ungan_dist.runs.units import Done, Failed, Unit, Working, execute


def without_progress(outcomes: Iterable[Done | Failed | Working]) -> Iterator[Done | Failed]:
    """Yield the outcomes of units, without the progress within them."""
    return (outcome for outcome in outcomes if not isinstance(outcome, Working))


class InProcess:
    """Execute units one after another and record them; raise KeyboardInterrupt after a given number."""

    def __init__(self, interrupted_after: int = 1000) -> None:
        self.units: list[Unit] = []
        self._left = interrupted_after

    def __call__(self, units: Sequence[Unit]) -> Iterator[Done | Failed]:
        for unit in units:
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            self.units.append(unit)
            yield execute(unit)


_run_in_pool = LocalPool.run_units


def rehearse_here(rehearsal: Rehearsal) -> Findings:
    """Perform a rehearsal in the test's own process."""
    with tempfile.TemporaryDirectory() as folder:
        return perform(rehearsal, Path(folder) / "stage")


def run_command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line, its rehearsal and its units, and restore the signal handlers afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setenv("COLUMNS", "200")
        patch.setattr(process, "rehearse_in_process", rehearse_here)
        if LocalPool.run_units is _run_in_pool:  # a test may have replaced it
            patch.setattr(LocalPool, "run_units", lambda pool, units: InProcess()(units))
        try:
            with pytest.raises(SystemExit) as ended:
                cli.main([str(word) for word in words])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    code = ended.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(words, code, stdout.getvalue(), stderr.getvalue())


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that the command refused its input with a message that contains these words."""
    assert result.returncode == 2, result.stderr
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
