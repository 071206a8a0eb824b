"""The gauges of a fleet are set by a thread, whatever the driver does."""

from __future__ import annotations

import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ungan_dist.cluster import metrics
from ungan_dist.cluster.metrics import Metrics


class Recorder:
    """A gauge that keeps what it was set to."""

    values: ClassVar[defaultdict[str, list[float]]] = defaultdict(list)

    def __init__(self, name: str, *_: object) -> None:
        self._name = name

    def set(self, value: float, tags: dict[str, str] | None = None) -> None:
        self.values[self._name].append(value)


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> defaultdict[str, list[float]]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    monkeypatch.setattr(Recorder, "values", found)
    monkeypatch.setattr(metrics, "Gauge", Recorder)
    for name in ("EXPORT_SECONDS", "DISK_SECONDS"):
        monkeypatch.setattr(metrics, name, 0.01)
    return found


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_gauges_are_set_while_the_driver_does_something_else(values: defaultdict[str, list[float]]) -> None:
    with Metrics() as fleet:
        fleet.record_quarantine()
        wait_for(lambda: values["ungan_quarantined"][-5:] == [1] * 5)
        assert set(values["ungan_seconds_without_progress"]) == {0.0}
    after = len(values["ungan_quarantined"])
    time.sleep(0.1)
    assert len(values["ungan_quarantined"]) == after


def test_the_silence_grows_until_there_is_progress_or_nothing_to_do(values: defaultdict[str, list[float]]) -> None:
    silence = values["ungan_seconds_without_progress"]
    with Metrics() as fleet:
        fleet.record_progress()
        wait_for(lambda: silence and silence[-1] > 0.3)
        fleet.record_progress()
        wait_for(lambda: 0 < silence[-1] < 0.2)
        wait_for(lambda: silence[-1] > 0.3)
        fleet.record_idle()
        wait_for(lambda: silence[-1] == 0.0)


def test_the_disk_of_the_output_is_that_of_its_nearest_folder(
    values: defaultdict[str, list[float]], tmp_path: Path
) -> None:
    with Metrics(tmp_path / "not/there/yet"):
        wait_for(lambda: values["ungan_output_size_bytes"])
        usage = shutil.disk_usage(tmp_path)
    assert values["ungan_output_size_bytes"][-1] == usage.total
    assert values["ungan_output_free_bytes"][-1] == pytest.approx(usage.free, abs=1e9)


def test_a_disk_that_does_not_answer_stops_no_other_gauge(
    values: defaultdict[str, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, usage = threading.Event(), shutil.disk_usage(tmp_path)

    def answer_late(_: Path) -> Any:
        answers.wait(20)
        return usage

    monkeypatch.setattr(metrics.shutil, "disk_usage", answer_late)
    try:
        with Metrics(tmp_path):
            wait_for(lambda: len(values["ungan_workers"]) > 5)
    finally:
        answers.set()
    assert not values["ungan_output_free_bytes"]


def test_a_disk_that_cannot_be_read_has_no_value(
    values: defaultdict[str, list[float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError

    with Metrics(tmp_path):
        wait_for(lambda: values["ungan_output_free_bytes"])
        monkeypatch.setattr(metrics.shutil, "disk_usage", refuse)
        wait_for(lambda: _is_constant(values["ungan_output_free_bytes"], values["ungan_workers"]))


def _is_constant(disk: list[float], others: list[float]) -> bool:
    """Whether the one series ended while the other goes on."""
    before, at = len(disk), len(others)
    time.sleep(0.2)
    return len(disk) == before and len(others) > at
