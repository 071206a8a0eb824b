"""The driver notices that the head is lost, before Ray ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from ungan_dist.cluster import contact
from ungan_dist.cluster.connection import connect_to_ray
from ungan_dist.cluster.contact import CHECK_SECONDS, EXIT_SECONDS, KNOWN_SECONDS, LOST_SECONDS, Contact
from ungan_dist.errors import ConfigError

RAYS_LIMIT = 60
"""Seconds without the head after which Ray ends a driver."""


class Clock:
    """A clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(contact.time, "monotonic", lambda: self.now)


def test_the_silence_of_a_head_begins_with_its_first_missing_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    found = Contact(identify=lambda: b"" if 100 <= clock.now <= 140 else b"id", is_known=lambda: True)
    silences = []
    for second in range(1, 200):
        clock.now = float(second)
        silences.append(found.measure_silence())
    assert not found.is_restarted
    assert silences == [0.0] * 99 + [max(second - 100.0, CHECK_SECONDS) for second in range(100, 141)] + [0.0] * 59


def test_time_in_which_nobody_asked_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, answers = Clock(monkeypatch), iter([b"id", None, b"id"])
    found = Contact(identify=lambda: next(answers), is_known=lambda: True)
    clock.now = 1000.0
    assert found.measure_silence() == CHECK_SECONDS
    clock.now = 1001.0
    assert found.measure_silence() == 0


@pytest.mark.parametrize(
    ("answers", "loss"),
    [([b"id"], ""), ([None, b"id"], ""), ([None] * 99, "has not answered for 30 s"), ([None, b"new"], "started again")],
)
def test_a_call_to_ray_waits_for_the_head(
    monkeypatch: pytest.MonkeyPatch, answers: list[bytes | None], loss: str
) -> None:
    clock, following = Clock(monkeypatch), iter([b"id", *answers])

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(contact.time, "sleep", sleep)
    found = Contact(identify=lambda: next(following), is_known=lambda: True)
    assert loss in found.wait_for_answer(at_once=True)
    assert bool(loss) == bool(found.wait_for_answer())


def test_a_head_that_answers_late_at_first_was_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, answers = Clock(monkeypatch), iter([None, b"id", b"id"])
    found = Contact(identify=lambda: next(answers), is_known=lambda: True)
    for clock.now in (1.0, 2.0):
        found.measure_silence()
        assert not found.is_restarted


def test_a_process_that_ray_blocks_ends_before_ray_ends_it() -> None:
    assert LOST_SECONDS + 2 * CHECK_SECONDS < EXIT_SECONDS < RAYS_LIMIT - 2 * CHECK_SECONDS - 2


def test_a_head_is_not_asked_more_often_than_necessary(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, checks, questions = Clock(monkeypatch), [0], [0]

    def identify() -> bytes:
        checks[0] += 1
        return b"id"

    def is_known() -> bool:
        questions[0] += 1
        return True

    found = Contact(identify=identify, is_known=is_known)
    for tenth in range(100):
        clock.now = tenth / 10
        found.measure_silence()
        assert not found.is_given_up()
    assert 1 <= checks[0] <= 1 + 10 / CHECK_SECONDS
    assert 1 <= questions[0] <= 10 / KNOWN_SECONDS


def test_a_driver_that_the_cluster_does_not_know_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    found = Contact(identify=lambda: b"id", is_known=lambda: False)
    assert not found.is_given_up()
    clock.now = KNOWN_SECONDS
    assert found.is_given_up()


def test_a_head_that_was_started_again_has_another_id(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    found = Contact(identify=lambda: {0: b"first", 1: None}.get(int(clock.now), b"second"), is_known=lambda: True)
    for clock.now in (1.0, 2.0):
        assert found.is_restarted is False
        found.measure_silence()
    assert found.is_restarted


ABORTED = """
import atexit, os, sys
from ungan_dist.cluster import contact
from ungan_dist.cli import script
atexit.register(os.abort)  # as Ray does at times after the loss of a head
if sys.argv.pop() == "lost":
    contact._head_lost.set()
script()
"""


@pytest.mark.parametrize(("state", "words", "code"), [("lost", "--version", 0), ("lost", "nothing", 2)])
def test_a_process_that_lost_its_head_ends_with_its_own_code(state: str, words: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", ABORTED, words, state], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout + done.stderr


def test_a_process_with_its_head_ends_as_python_ends() -> None:
    done = subprocess.run([sys.executable, "-c", ABORTED, "--version", "here"], capture_output=True, check=False)
    assert done.returncode == -signal.SIGABRT


def test_a_process_that_lost_its_head_cannot_connect_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = threading.Event()
    lost.set()
    monkeypatch.setattr(contact, "_head_lost", lost)
    with pytest.raises(ConfigError, match="run again in a new process"), connect_to_ray("auto"):
        pass


@pytest.mark.parametrize(("answer", "is_shut_down"), [(b"id", True), (b"another", False), (None, False)])
def test_ray_is_disconnected_only_from_a_head_that_answers(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None, is_shut_down: bool
) -> None:
    answers, calls = iter([b"id"]), list[str]()
    monkeypatch.setattr(contact, "_head_lost", threading.Event())
    monkeypatch.setattr(contact, "_make_query", lambda: lambda: next(answers, answer))
    monkeypatch.setattr(contact.ray, "shutdown", lambda: calls.append("shutdown"))
    with contact.exit_if_head_is_lost():
        pass
    assert bool(calls) is is_shut_down
    assert contact.is_head_lost() is not is_shut_down
