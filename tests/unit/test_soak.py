"""The soak finds a unit that is counted twice, lost or changed, and a process that grows."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from commits import watching
from counted_units import find_miscounts, read_life

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import soak
from soak_parts.faults import ENDING, FAULTS, draw_fault
from soak_parts.processes import Process, fit_slope, judge, list_processes, measure

from ungan_dist import store


def make_lines(titles: list[str], *, total: int = 10, found: int = 0) -> list[str]:
    """Write a run's JSON lines, with progress within units and remarks between them."""
    events = [{"stage": "plan", "note": f"4004 models (4000 shadow), {found:,} done; /mnt/shared/round-0/run"}]
    for done, title in enumerate(titles, start=1):
        stage = {"stage": "original, shadows", "done": done, "total": total, "kind": "shadow models"}
        events += [stage | {"note": "epoch 1", "within": True}, stage | {"note": title, "within": False}]
    return ["a warning", *map(json.dumps, events), '{"stage": "orig']


def test_units_are_counted_once_however_often_the_command_runs() -> None:
    lives = [read_life(make_lines(["a", "b"])), read_life(make_lines(["c"], found=2))]
    assert not find_miscounts(lives)
    assert sum(sum(life.done.values()) for life in lives) == 3


@pytest.mark.parametrize("runs", [[["a", "b", "a"]], [["a", "b"], ["c", "a"]]])
def test_a_unit_counted_twice_is_found(runs: list[list[str]]) -> None:
    lives = [read_life(make_lines(titles, found=2 * index)) for index, titles in enumerate(runs)]
    assert find_miscounts(lives) == ["original, shadows: a was counted 2 times"]


def test_a_unit_that_vanishes_between_two_runs_is_found() -> None:
    pairs = ["shadow models 0–1", "shadow models 2–3"]
    lives = [read_life(make_lines(pairs, found=1000)), read_life([]), read_life(make_lines([], found=1002))]
    assert find_miscounts(lives) == ["1004 models were done, and the next run of the command found 1002"]
    assert not find_miscounts([*lives[:2], read_life(make_lines([], found=1006))])  # more than it lived to count


def commit(path: Path) -> None:
    store.write_json(path, {})


def test_every_commit_and_removal_is_seen(tmp_path: Path) -> None:
    with watching(tmp_path / "shadows") as commits:
        for name in ("a", "b", "b", "c"):
            commit(tmp_path / f"shadows/{name}.json")
        (tmp_path / "shadows/c.json").unlink()
        (tmp_path / "shadows/a.json").rename(tmp_path / "elsewhere")
        commit(tmp_path / "shadows/a.json")
        deadline = time.monotonic() + 30
        while (commits.counts.total(), len(commits.removed)) < (5, 2) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert dict(commits.counts) == {"a.json": 2, "b.json": 2, "c.json": 1}
    assert commits.num_repeated == 2
    assert commits.check({"a.json", "b.json", "unseen.json"}) == [
        "c.json was removed",
        "a.json was removed",
        "c.json was committed and is gone",
        "the commit of unseen.json was not seen",
    ]


def test_a_count_above_its_total_is_found() -> None:
    assert find_miscounts([read_life(make_lines(["a", "b"], total=1))]) == ["original, shadows counted 2 of 1"]


def test_failures_are_no_results() -> None:
    life = read_life(make_lines(["a", "failed: b", "diverged: c"]))
    assert life.failed == ["failed: b", "diverged: c"]
    assert list(life.done) == ["original, shadows: a"]


class Hosts(dict[str, SimpleNamespace]):
    """Hosts of which some are off."""

    def boot(self, name: str) -> None:
        self[name].is_on = True


def test_a_host_that_a_failed_fault_left_off_is_booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = Hosts({name: SimpleNamespace(is_on=name != "east", pid=0) for name in ("head", "driver", *soak.WORKERS)})
    cluster = SimpleNamespace(
        network=hosts, workers=soak.WORKERS, started=[], start_ray=lambda name: cluster.started.append(name)
    )
    monkeypatch.setattr(soak, "Round", lambda *_: None)
    monkeypatch.setattr(soak, "list_processes", lambda _: [])  # Ray runs nowhere
    run = soak.Soak(cluster, seed=0, num_units=1, results=tmp_path)  # pyright: ignore[reportArgumentType]
    run.heal()
    assert all(host.is_on for host in hosts.values())
    assert not cluster.started
    run.heal()
    assert cluster.started == sorted(hosts)


def make_lives(per_hour: float, *, seconds: float = 600, count: int = 12) -> list[np.ndarray]:
    """Draw series of processes of different size that grow alike, after a start of 90 s."""
    draw = np.random.default_rng(0)
    times = np.arange(0.0, seconds, 5.0)
    levels = draw.uniform(300, 900, count)
    start = 100 * np.minimum(times / 90, 1)
    return [
        np.stack([times, level + start + per_hour * times / 3600 + draw.normal(0, 0.5, len(times))], axis=1)
        for level in levels
    ]


@pytest.mark.parametrize(("per_hour", "verdict"), [(0, "flat"), (10, "flat"), (40, "grows"), (-40, "flat")])
def test_growth_is_found_within_lives(per_hour: float, verdict: str) -> None:
    slope = fit_slope(make_lives(per_hour))
    assert slope is not None
    assert slope.interval is not None
    assert slope.interval[0] <= per_hour <= slope.interval[1]
    assert judge(slope, 20) == verdict


def test_few_or_short_lives_settle_nothing() -> None:
    assert fit_slope(make_lives(0, seconds=100)) is None
    assert judge(fit_slope(make_lives(0, count=3)), 20) == "not settled"
    assert judge(None, 20) == "not settled"


def test_a_process_is_measured_until_it_ends() -> None:
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        found = {process.pid: process for process in list_processes({"here": os.getpid()})}
        process = found[sleeping.pid]
        before = measure(process)
        sleeping.kill()
    assert before is not None
    assert before["threads"] == 1
    assert before["rss_mb"] > 0
    assert measure(process) is None


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (b"ray::Worker.run_unit\0", "worker"),
        (b"/venv/bin/python\0/venv/bin/ungan-dist\0run\0digits\0", "driver"),
        (b"bash\0-c\0ungan-dist run digits\0", ""),
        (b"/ray/raylet/raylet\0--port\0", "raylet"),
        (b"/ray/gcs/gcs_server\0", "head"),
        (b"ray::IDLE\0", ""),
        (b"", ""),
    ],
)
def test_a_process_is_known_by_its_command(command: bytes, kind: str) -> None:
    assert Process(host="north", pid=1, started=1, command=command).kind == kind


def test_faults_are_drawn_from_the_seed_and_spare_what_they_shall_spare() -> None:
    workers = ("north", "east", "south")

    def draw_many(spares_command: bool) -> list[str]:
        draw = random.Random(1)
        drawn = [draw_fault(draw, workers, spares_command=spares_command) for _ in range(500)]
        assert {one.host for one in drawn} == set(workers)
        assert all(20 <= one.wait_s <= 60 for one in drawn)
        return [one.fault for one in drawn]

    assert set(draw_many(False)) == set(FAULTS)
    assert set(draw_many(True)) == set(FAULTS) - set(ENDING)
    assert draw_many(True) == draw_many(True)
