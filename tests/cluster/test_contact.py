"""The driver notices that the head is lost, before Ray ends the process."""

from __future__ import annotations

import pytest

from ungan_dist.cluster import contact
from ungan_dist.cluster.contact import CHECK_SECONDS, HEAD_LOST_SECONDS, Contact


class Clock:
    """A clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(contact.time, "monotonic", lambda: self.now)


def test_a_silent_head_is_lost_after_a_while_and_before_ray_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, answers = Clock(monkeypatch), True
    found = Contact(is_answering=lambda: answers, is_known=lambda: True)
    lost = {}
    for second in range(200):
        clock.now, answers = float(second), second < 100
        lost[second] = found.describe_loss(is_idle=False)
    first = next(second for second, reason in lost.items() if reason)
    assert 100 + HEAD_LOST_SECONDS - CHECK_SECONDS <= first <= 100 + HEAD_LOST_SECONDS + CHECK_SECONDS < 160
    assert "head has not answered" in lost[first]


def test_a_short_silence_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, answers = Clock(monkeypatch), True
    found = Contact(is_answering=lambda: answers, is_known=lambda: True)
    for second in range(300):
        clock.now, answers = float(second), second % 40 > 20
        assert not found.describe_loss(is_idle=False)


def test_the_head_is_asked_about_the_drivers_node_only_while_no_worker_is_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    found = Contact(is_answering=lambda: True, is_known=lambda: False)
    for is_idle in (False, True):
        clock.now += CHECK_SECONDS
        assert bool(found.describe_loss(is_idle=is_idle)) is is_idle


def test_a_check_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, checks = Clock(monkeypatch), 0

    def answer() -> bool:
        nonlocal checks
        checks += 1
        return True

    found = Contact(is_answering=answer, is_known=lambda: True)
    for second in range(100):
        clock.now = second / 10
        found.describe_loss(is_idle=True)
    assert checks <= 100 / 10 / CHECK_SECONDS
