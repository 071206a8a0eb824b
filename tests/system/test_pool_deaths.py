"""Messages about a unit whose process dies repeatedly."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pytest

from ungan_dist.errors import Unfinished
from ungan_dist.runs.pool import LocalPool
from ungan_dist.runs.shadows import ShadowUnit

pytestmark = pytest.mark.process


def _leave() -> None:
    sys.exit(1)


def _crash() -> None:
    os.abort()


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(ShadowUnit):
    """A unit that kills or ends the process that unpickles it."""

    def __init__(self, how: Callable[[], None]) -> None:
        for name, value in {"how": how, "id": "deadly", "shadows": (0, 1)}.items():
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return self.how, ()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (_leave, "the unit cannot be loaded in a worker process: SystemExit: 1"),
        (_crash, "its process died 3 times, the last time the process crashed (SIGABRT)"),
        (
            _be_killed,
            "its process died 3 times, the last time the process was killed (SIGKILL, often for lack of memory)",
        ),
    ],
)
def test_a_death_is_reported_with_the_last_output_and_only_kills_mention_memory(
    how: Callable[[], None], words: str
) -> None:
    with LocalPool(1) as pool:
        (failed,) = pool.run_units([Deadly(how)])
    assert failed.error == words
    assert failed.is_final == ("crashed" in words)


def test_processes_that_die_at_their_start_end_the_run_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        LocalPool(1) as pool,
        pytest.raises(Unfinished, match=r"died at their start.*exit code 1: see ungan-dist doctor"),
    ):
        list(pool.run_units([Deadly(_leave)]))
