"""The fleet's policy without a cluster: no unit is lost or counted twice, and failure limits hold."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_simulation import Simulation

from ungan_dist.cluster.events import (
    Action,
    CompleteUnit,
    DriverLost,
    KillWorker,
    Kind,
    QuarantineUnit,
    ReleaseWorker,
    StartWorker,
    StopFleet,
    SubmitUnit,
    Tick,
    UnitEnded,
    UnitStarted,
    WorkerDied,
    WorkerReady,
)
from ungan_dist.cluster.policy import Limits, Policy


def submitted(actions: list[Action]) -> list[tuple[int, str]]:
    return [(action.worker, action.unit) for action in actions if isinstance(action, SubmitUnit)]


def start_policy(units: str, num_workers: int, **limits: float) -> Policy:
    """Return a policy whose workers are ready and have started their first units."""
    policy = Policy(units, num_workers, Limits(**limits))  # pyright: ignore[reportArgumentType]
    policy.start()
    for worker in range(num_workers):
        for _, unit in submitted(policy.handle(WorkerReady(worker=worker), 0.0))[:1]:
            policy.handle(UnitStarted(worker=worker, unit=unit), 0.0)
    return policy


def test_at_most_one_worker_per_unit_is_started() -> None:
    assert [type(action) for action in Policy("abc", 8, Limits()).start()] == [StartWorker] * 3
    assert [type(action) for action in Policy("abcdefgh", 2, Limits()).start()] == [StartWorker] * 2


def test_a_second_unit_is_submitted_ahead_only_while_units_outnumber_workers() -> None:
    policy = Policy("abcdef", 2, Limits())
    policy.start()
    assert submitted(policy.handle(WorkerReady(worker=0), 0.0)) == [(0, "a"), (0, "b")]
    assert submitted(policy.handle(WorkerReady(worker=1), 0.0)) == [(1, "c"), (1, "d")]
    # two units for two workers: none is queued that another worker could start
    assert submitted(policy.handle(UnitEnded(worker=0, unit="a", kind="done"), 1.0)) == []
    assert submitted(policy.handle(UnitEnded(worker=0, unit="b", kind="done"), 2.0)) == [(0, "e")]


def test_the_units_of_a_lost_worker_are_retried_first() -> None:
    policy = start_policy("abcdefgh", 2)
    actions = policy.handle(WorkerDied(worker=0, reason="killed"), 1.0)
    assert actions == [StartWorker(worker=2)]
    assert submitted(policy.handle(WorkerReady(worker=2), 2.0)) == [(2, "a")]
    assert submitted(policy.handle(UnitEnded(worker=2, unit="a", kind="done"), 3.0)) == [(2, "b")]
    assert submitted(policy.handle(UnitEnded(worker=2, unit="b", kind="done"), 4.0)) == [(2, "e"), (2, "f")]
    assert policy.num_retries == 2


def test_units_of_a_dead_worker_are_retried_one_by_one() -> None:
    """Unit a fails at once and b then ends the process, so that the result of a is lost every time."""
    policy = start_policy("abcdefgh", 1, max_system_failures=2)
    policy.handle(WorkerDied(worker=0, reason="gone"), 1.0)
    quarantined: dict[str, str] = {}
    given: list[tuple[int, str]] = []
    actions = policy.handle(WorkerReady(worker=1), 2.0)
    for now in range(3, 60):
        quarantined |= {action.unit: action.error for action in actions if isinstance(action, QuarantineUnit)}
        given += submitted(actions)
        hired = [action.worker for action in actions if isinstance(action, StartWorker)]
        if hired:
            actions = policy.handle(WorkerReady(worker=hired[0]), now)
            continue
        if not given:
            break
        worker, unit = given.pop(0)
        ahead = [other for number, other in given if number == worker]
        assert unit not in "ab" or not ahead
        if unit == "a":
            actions = policy.handle(UnitEnded(worker=worker, unit=unit, kind="error", error="not finite"), now)
        elif unit == "b":
            actions = policy.handle(WorkerDied(worker=worker, reason="exit 17"), now)
        else:
            actions = policy.handle(UnitEnded(worker=worker, unit=unit, kind="done"), now)
    assert policy.finished
    assert quarantined == {"a": "not finite", "b": "its worker was lost 2 times, the last time: exit 17"}


@pytest.mark.parametrize("kind", ["failed", "diverged", "out_of_memory", "storage_full"])
def test_what_would_fail_again_is_given_up_at_once_and_its_worker_kept(kind: Kind) -> None:
    policy = start_policy("ab", 1)
    actions = policy.handle(UnitEnded(worker=0, unit="a", kind=kind, error="words"), 1.0)
    assert QuarantineUnit(unit="a", error="words", kind=kind) in actions
    assert not [action for action in actions if isinstance(action, ReleaseWorker | KillWorker | StartWorker)]
    assert policy.num_retries == 0


def test_units_that_a_lost_worker_committed_are_done() -> None:
    policy = start_policy("ab", 1)
    actions = policy.handle(WorkerDied(worker=0, reason="killed", committed=frozenset("a")), 1.0)
    assert CompleteUnit(unit="a") in actions
    policy.handle(WorkerReady(worker=1), 2.0)
    assert policy.handle(UnitEnded(worker=1, unit="b", kind="done"), 3.0)[0] == CompleteUnit(unit="b")
    assert policy.finished


@pytest.mark.parametrize(("node_lost", "given_up"), [(False, True), (True, False)])
def test_lost_workers_count_against_a_unit_and_lost_nodes_do_not(node_lost: bool, given_up: bool) -> None:
    policy = start_policy("a", 1, max_system_failures=3)
    actions: list[Action] = []
    for worker in range(3):
        policy.handle(WorkerReady(worker=worker), 0.0)
        actions += policy.handle(WorkerDied(worker=worker, reason="out of memory", node_lost=node_lost), 1.0)
    quarantined = [action for action in actions if isinstance(action, QuarantineUnit)]
    assert bool(quarantined) == given_up
    assert policy.finished == given_up
    if given_up:
        assert "3 times" in quarantined[0].error
        assert "out of memory" in quarantined[0].error


def test_a_death_counts_against_the_running_unit_only() -> None:
    policy = start_policy("abcdef", 1, max_system_failures=1)
    actions = policy.handle(WorkerDied(worker=0, reason="killed"), 1.0)
    assert [action.unit for action in actions if isinstance(action, QuarantineUnit)] == ["a"]
    assert submitted(policy.handle(WorkerReady(worker=1), 2.0))[0] == (1, "b")


def test_a_failed_unit_is_retried_last_and_has_a_smaller_limit() -> None:
    policy = start_policy("ab", 1, max_application_failures=2)
    actions = policy.handle(UnitEnded(worker=0, unit="a", kind="error", error="boom"), 1.0)
    assert actions == [
        ReleaseWorker(worker=0),
        StartWorker(worker=1),
    ]  # the worker is replaced: its device may be broken
    assert submitted(policy.handle(WorkerReady(worker=1), 2.0)) == [(1, "b")]
    assert submitted(policy.handle(UnitEnded(worker=1, unit="b", kind="done"), 3.0)) == [(1, "a")]
    actions = policy.handle(UnitEnded(worker=1, unit="a", kind="error", error="boom"), 4.0)
    assert actions == [QuarantineUnit(unit="a", error="boom"), ReleaseWorker(worker=1)]
    assert policy.finished


def test_a_kill_does_not_count_against_a_unit_submitted_ahead() -> None:
    policy = start_policy("abcd", 1, max_system_failures=1)
    assert list(policy.handle(UnitEnded(worker=0, unit="a", kind="error", error="boom"), 1.0)) == [
        KillWorker(worker=0, reason="a raised on it")
    ]
    actions = policy.handle(WorkerDied(worker=0, reason="killed"), 2.0)
    assert actions == [StartWorker(worker=1)]
    assert submitted(policy.handle(WorkerReady(worker=1), 3.0))[0] == (1, "b")


def test_a_broken_worker_does_not_fail_all_units() -> None:
    units = [f"unit-{number}" for number in range(40)]
    policy = Policy(units, 4, Limits())
    policy.start()
    queues: dict[int, list[str]] = {worker: [] for worker in range(4)}
    for worker in range(4):
        for _, unit in submitted(policy.handle(WorkerReady(worker=worker), 0.0)):
            queues[worker].append(unit)
    fate: dict[str, str] = {}
    now = 0.0
    while not policy.finished:
        now += 1.0
        worker = next(number for number in sorted(queues) if queues[number])
        unit = queues[worker].pop(0)
        kind: Kind = "error" if worker == 0 else "done"
        actions = policy.handle(UnitEnded(worker=worker, unit=unit, kind=kind), now)
        while actions:
            action, *actions = actions
            match action:
                case StartWorker(worker=number):
                    queues[number] = []
                    actions += policy.handle(WorkerReady(worker=number), now)
                case SubmitUnit(worker=number, unit=handed):
                    queues[number].append(handed)
                case KillWorker(worker=number):
                    del queues[number]
                    actions += policy.handle(WorkerDied(worker=number, reason="killed"), now)
                case ReleaseWorker(worker=number):
                    del queues[number]
                case CompleteUnit(unit=ended):
                    fate[ended] = "done"
                case _:
                    pytest.fail(f"unexpected {action}")
    assert fate == dict.fromkeys(units, "done")


@pytest.mark.parametrize("kind", ["out_of_memory", "storage_full"])
def test_lack_of_memory_or_space_is_not_retried(kind: Kind) -> None:
    policy = start_policy("ab", 1)
    actions = policy.handle(UnitEnded(worker=0, unit="a", kind=kind, error="x"), 1.0)
    assert QuarantineUnit(unit="a", error="x", kind=kind) in actions


def test_a_deadline_counts_from_the_units_start() -> None:
    policy = Policy("ab", 1, Limits(deadline_seconds=10.0))
    policy.start()
    policy.handle(WorkerReady(worker=0), 0.0)
    assert policy.handle(Tick(), 100.0) == []  # submitted, but its start is not reported
    policy.handle(UnitStarted(worker=0, unit="a"), 100.0)
    assert policy.handle(Tick(), 109.0) == []
    actions = policy.handle(Tick(), 111.0)
    assert isinstance(actions[0], KillWorker)
    assert policy.handle(Tick(), 112.0) == []  # once
    assert submitted(policy.handle(WorkerDied(worker=0, reason="deadline"), 113.0)) == []
    assert submitted(policy.handle(WorkerReady(worker=1), 114.0))[0] == (1, "a")


def test_a_start_reported_before_the_previous_end_counts() -> None:
    policy = start_policy("abcd", 1, deadline_seconds=10.0)
    policy.handle(UnitStarted(worker=0, unit="a"), 0.0)
    policy.handle(UnitStarted(worker=0, unit="b"), 4.0)
    policy.handle(UnitEnded(worker=0, unit="a", kind="done"), 5.0)
    assert policy.list_running(8.0) == [(3.0, "b", 0)]
    assert policy.handle(Tick(), 14.0) == []
    assert isinstance(policy.handle(Tick(), 16.0)[0], KillWorker)


def test_a_unit_that_ends_before_its_kill_is_done() -> None:
    policy = start_policy("ab", 1, deadline_seconds=10.0)
    policy.handle(UnitStarted(worker=0, unit="a"), 0.0)
    assert isinstance(policy.handle(Tick(), 11.0)[0], KillWorker)
    actions = policy.handle(UnitEnded(worker=0, unit="a", kind="done"), 12.0)
    assert actions == [CompleteUnit(unit="a"), ReleaseWorker(worker=0), StartWorker(worker=1)]
    assert submitted(policy.handle(WorkerReady(worker=1), 13.0)) == [(1, "b")]


def test_the_default_deadline_follows_the_longest_unit_of_the_group() -> None:
    limits = Limits(slowness=10.0, min_deadline_seconds=20.0)
    policy = Policy(["quick 1", "quick 2", "slow 1", "slow 2"], 1, limits, group_of=lambda unit: unit.split()[0])
    policy.start()
    policy.handle(WorkerReady(worker=0), 0.0)
    policy.handle(UnitStarted(worker=0, unit="quick 1"), 0.0)
    assert policy.get_deadline("quick 2") is None
    policy.handle(UnitEnded(worker=0, unit="quick 1", kind="done"), 1.0)
    assert policy.get_deadline("quick 2") == 20.0
    policy.handle(UnitStarted(worker=0, unit="quick 2"), 1.0)
    policy.handle(UnitEnded(worker=0, unit="quick 2", kind="done"), 5.0)
    assert policy.get_deadline("quick 2") == 40.0
    policy.handle(UnitStarted(worker=0, unit="slow 1"), 5.0)
    assert policy.get_deadline("slow 1") is None
    assert policy.handle(Tick(), 5000.0) == []
    policy.handle(UnitEnded(worker=0, unit="slow 1", kind="error"), 5000.0)
    assert policy.get_deadline("slow 2") is None  # a failure does not count as a duration


def test_a_fleet_whose_workers_die_at_their_start_stops() -> None:
    policy = Policy("abcd", 2, Limits(max_failed_starts=2))
    actions = policy.start()
    for worker in range(4):
        actions = policy.handle(WorkerDied(worker=worker, reason="ModuleNotFoundError"), 1.0)
    assert isinstance(actions[-1], StopFleet)
    assert "ModuleNotFoundError" in actions[-1].reason
    assert policy.finished


def test_a_host_on_which_no_worker_starts_does_not_stop_the_others() -> None:
    limits = Limits(max_failed_starts=2, failed_starts_pause_seconds=30.0)
    policy = Policy("abcdefgh", 2, limits)
    policy.start()
    policy.handle(WorkerReady(worker=0), 0.0)
    for worker in (1, 2, 3):
        actions = policy.handle(WorkerDied(worker=worker, reason="No space left on device"), 1.0)
        assert actions == [StartWorker(worker=worker + 1)]
    assert policy.handle(WorkerDied(worker=4, reason="No space left on device"), 1.0) == []
    assert policy.handle(Tick(), 30.0) == []
    assert submitted(policy.handle(UnitEnded(worker=0, unit="a", kind="done"), 30.0)) == [(0, "c")]
    assert policy.handle(Tick(), 32.0) == [StartWorker(worker=5)]
    # the last worker dies, and with it the reason to wait
    assert policy.handle(WorkerDied(worker=0, reason="lost"), 33.0)[0] == StartWorker(worker=6)
    for worker in (5, 6, 7):
        policy.handle(WorkerDied(worker=worker, reason="No space left on device"), 34.0)
    assert isinstance(policy.handle(WorkerDied(worker=8, reason="No space left on device"), 34.0)[-1], StopFleet)


def test_starts_that_fail_are_paused_although_other_workers_end_units() -> None:
    limits = Limits(max_failed_starts=3, failed_starts_pause_seconds=30.0)
    policy = Policy((f"{unit}" for unit in range(1000)), 2, limits)
    policy.start()
    units = [unit for _, unit in submitted(policy.handle(WorkerReady(worker=0), 0.0))]
    starting, num_starts = 1, 0
    for second in range(300):
        units += [
            unit for _, unit in submitted(policy.handle(UnitEnded(worker=0, unit=units.pop(0), kind="done"), second))
        ]
        if starting is not None:
            actions = policy.handle(WorkerDied(worker=starting, reason="No space left on device"), second)
        else:
            actions = policy.handle(Tick(), second)
        starting = next((action.worker for action in actions if isinstance(action, StartWorker)), None)
        num_starts += starting is not None
    assert 20 < num_starts < 60  # six in a row, then none for 30 s


def test_a_fleet_without_workers_waits_and_stops() -> None:
    policy = Policy("ab", 1, Limits(wait_for_workers_seconds=60.0))
    policy.start()
    assert policy.handle(Tick(), 0.0) == policy.handle(Tick(), 59.0) == []
    assert isinstance(policy.handle(Tick(), 61.0)[0], StopFleet)


def test_a_lost_cluster_stops_the_fleet_with_the_reason() -> None:
    policy = Policy("ab", 1, Limits())
    policy.start()
    assert policy.handle(DriverLost(reason="the head is gone"), 1.0) == [StopFleet(reason="the head is gone")]
    assert policy.finished


def test_idle_workers_get_units_at_once() -> None:
    actions = Policy("abc", 3, Limits()).start(num_idle=2)
    assert [type(action) for action in actions] == [StartWorker, SubmitUnit, SubmitUnit]


@given(
    num_units=st.integers(1, 60),
    num_workers=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    death_rate=st.floats(0, 0.6),
    error_rate=st.floats(0, 0.6),
)
def test_every_unit_is_settled_exactly_once(
    num_units: int, num_workers: int, seed: int, death_rate: float, error_rate: float
) -> None:
    simulation = Simulation(num_units, num_workers, seed, death_rate, error_rate)
    simulation.execute(simulation.policy.start())
    while not simulation.policy.finished:
        simulation.step()
    assert simulation.settled == {f"unit-{i}": 1 for i in range(num_units)}


def test_settled_units_leave_no_memory_behind() -> None:
    """``benchmarks/scheduling.py`` does the same with 100,000 units and 1,024 workers, and times the decisions."""
    simulation = Simulation(4_000, 64, seed=0, death_rate=0.001, error_rate=0.001)
    simulation.execute(simulation.policy.start())
    bytes_held: list[int] = []
    num_steps = 0
    while not simulation.policy.finished:
        simulation.step()
        num_steps += 1
        if num_steps % 400 == 0:
            bytes_held.append(len(pickle.dumps(simulation.policy)))
    assert num_steps > 4_000
    assert bytes_held == sorted(bytes_held, reverse=True)
    assert bytes_held[-1] < 0.2 * bytes_held[0]
