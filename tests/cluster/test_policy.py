"""The fleet's policy without a fleet: no unit is lost or counted twice, and every budget is kept."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_simulation import Simulation

from ungan_dist.cluster.policy import (
    Action,
    Complete,
    Died,
    Dismiss,
    Ended,
    Hire,
    Joined,
    Kill,
    Kind,
    Limits,
    Policy,
    Quarantine,
    Started,
    Stop,
    Submit,
    Tick,
)


def submitted(actions: list[Action]) -> list[tuple[int, str]]:
    return [(action.worker, action.unit) for action in actions if isinstance(action, Submit)]


def begun(units: str, num_workers: int, **limits: float) -> Policy:
    """A policy whose workers are all up and have begun with their first units."""
    policy = Policy(units, num_workers, Limits(**limits))  # pyright: ignore[reportArgumentType]
    policy.start()
    for worker in range(num_workers):
        for _, unit in submitted(policy.on(Joined(worker=worker), 0.0))[:1]:
            policy.on(Started(worker=worker, unit=unit), 0.0)
    return policy


def test_workers_are_hired_for_the_work_there_is() -> None:
    assert [type(action) for action in Policy("abc", 8, Limits()).start()] == [Hire] * 3
    assert [type(action) for action in Policy("abcdefgh", 2, Limits()).start()] == [Hire] * 2


def test_a_second_unit_is_handed_ahead_only_while_there_is_plenty() -> None:
    policy = Policy("abcdef", 2, Limits())
    policy.start()
    assert submitted(policy.on(Joined(worker=0), 0.0)) == [(0, "a"), (0, "b")]
    assert submitted(policy.on(Joined(worker=1), 0.0)) == [(1, "c"), (1, "d")]
    # two are left for two workers: nobody queues a unit that another could begin at once
    assert submitted(policy.on(Ended(worker=0, unit="a", kind="done"), 1.0)) == []
    assert submitted(policy.on(Ended(worker=0, unit="b", kind="done"), 2.0)) == [(0, "e")]


def test_a_lost_workers_units_come_first_again() -> None:
    policy = begun("abcdefgh", 2)
    actions = policy.on(Died(worker=0, reason="killed"), 1.0)
    assert actions == [Hire(worker=2)]
    assert submitted(policy.on(Joined(worker=2), 2.0)) == [(2, "a")]
    assert submitted(policy.on(Ended(worker=2, unit="a", kind="done"), 3.0)) == [(2, "b")]
    assert submitted(policy.on(Ended(worker=2, unit="b", kind="done"), 4.0)) == [(2, "e"), (2, "f")]
    assert policy.num_retries == 2


def test_units_in_whose_company_a_worker_died_are_told_apart() -> None:
    """Unit a raises at once and b then ends the process: every time, the answer of a is lost on the way."""
    policy = begun("abcdefgh", 1, max_system_failures=2)
    policy.on(Died(worker=0, reason="gone"), 1.0)
    quarantined: dict[str, str] = {}
    given: list[tuple[int, str]] = []
    actions = policy.on(Joined(worker=1), 2.0)
    for now in range(3, 60):
        quarantined |= {action.unit: action.error for action in actions if isinstance(action, Quarantine)}
        given += submitted(actions)
        hired = [action.worker for action in actions if isinstance(action, Hire)]
        if hired:
            actions = policy.on(Joined(worker=hired[0]), now)
            continue
        if not given:
            break
        worker, unit = given.pop(0)
        ahead = [other for number, other in given if number == worker]
        assert unit not in "ab" or not ahead
        if unit == "a":
            actions = policy.on(Ended(worker=worker, unit=unit, kind="error", error="not finite"), now)
        elif unit == "b":
            actions = policy.on(Died(worker=worker, reason="exit 17"), now)
        else:
            actions = policy.on(Ended(worker=worker, unit=unit, kind="done"), now)
    assert policy.finished
    assert quarantined == {"a": "not finite", "b": "its worker was lost 2 times, the last time: exit 17"}


def test_what_a_lost_worker_had_committed_is_done() -> None:
    policy = begun("ab", 1)
    actions = policy.on(Died(worker=0, reason="killed", committed=frozenset("a")), 1.0)
    assert Complete(unit="a") in actions
    policy.on(Joined(worker=1), 2.0)
    assert policy.on(Ended(worker=1, unit="b", kind="done"), 3.0)[0] == Complete(unit="b")
    assert policy.finished


@pytest.mark.parametrize(("node_lost", "given_up"), [(False, True), (True, False)])
def test_a_unit_that_kills_its_workers_is_quarantined_but_lost_nodes_are_not_its_fault(
    node_lost: bool, given_up: bool
) -> None:
    policy = begun("a", 1, max_system_failures=3)
    actions: list[Action] = []
    for worker in range(3):
        policy.on(Joined(worker=worker), 0.0)
        actions += policy.on(Died(worker=worker, reason="out of memory", node_lost=node_lost), 1.0)
    quarantined = [action for action in actions if isinstance(action, Quarantine)]
    assert bool(quarantined) == given_up
    assert policy.finished == given_up
    if given_up:
        assert "3 times" in quarantined[0].error
        assert "out of memory" in quarantined[0].error


def test_only_the_unit_at_work_is_charged_with_a_death() -> None:
    policy = begun("abcdef", 1, max_system_failures=1)
    actions = policy.on(Died(worker=0, reason="killed"), 1.0)
    assert [action.unit for action in actions if isinstance(action, Quarantine)] == ["a"]
    assert submitted(policy.on(Joined(worker=1), 2.0))[0] == (1, "b")


def test_an_exception_has_a_smaller_budget_of_its_own_and_waits_behind_the_others() -> None:
    policy = begun("ab", 1, max_application_failures=2)
    actions = policy.on(Ended(worker=0, unit="a", kind="error", error="boom"), 1.0)
    assert actions == [Dismiss(worker=0), Hire(worker=1)]  # another worker is asked: this one's device may be broken
    assert submitted(policy.on(Joined(worker=1), 2.0)) == [(1, "b")]
    assert submitted(policy.on(Ended(worker=1, unit="b", kind="done"), 3.0)) == [(1, "a")]
    actions = policy.on(Ended(worker=1, unit="a", kind="error", error="boom"), 4.0)
    assert actions == [Quarantine(unit="a", error="boom"), Dismiss(worker=1)]
    assert policy.finished


def test_a_unit_handed_ahead_is_not_charged_with_the_end_of_its_worker() -> None:
    policy = begun("abcd", 1, max_system_failures=1)
    assert list(policy.on(Ended(worker=0, unit="a", kind="error", error="boom"), 1.0)) == [
        Kill(worker=0, reason="a raised on it")
    ]
    actions = policy.on(Died(worker=0, reason="killed"), 2.0)
    assert actions == [Hire(worker=1)]
    assert submitted(policy.on(Joined(worker=1), 3.0))[0] == (1, "b")


def test_a_broken_worker_does_not_take_the_whole_queue() -> None:
    units = [f"unit-{number}" for number in range(40)]
    policy = Policy(units, 4, Limits())
    policy.start()
    queues: dict[int, list[str]] = {worker: [] for worker in range(4)}
    for worker in range(4):
        for _, unit in submitted(policy.on(Joined(worker=worker), 0.0)):
            queues[worker].append(unit)
    fate: dict[str, str] = {}
    now = 0.0
    while not policy.finished:
        now += 1.0
        worker = next(number for number in sorted(queues) if queues[number])
        unit = queues[worker].pop(0)
        kind: Kind = "error" if worker == 0 else "done"
        actions = policy.on(Ended(worker=worker, unit=unit, kind=kind), now)
        while actions:
            action, *actions = actions
            match action:
                case Hire(worker=number):
                    queues[number] = []
                    actions += policy.on(Joined(worker=number), now)
                case Submit(worker=number, unit=handed):
                    queues[number].append(handed)
                case Kill(worker=number):
                    del queues[number]
                    actions += policy.on(Died(worker=number, reason="killed"), now)
                case Dismiss(worker=number):
                    del queues[number]
                case Complete(unit=ended):
                    fate[ended] = "done"
                case _:
                    pytest.fail(f"unexpected {action}")
    assert fate == dict.fromkeys(units, "done")


@pytest.mark.parametrize("kind", ["out_of_memory", "storage_full"])
def test_what_would_end_the_same_way_again_is_not_tried_again(kind: Kind) -> None:
    policy = begun("ab", 1)
    actions = policy.on(Ended(worker=0, unit="a", kind=kind, error="x"), 1.0)
    assert Quarantine(unit="a", error="x", kind=kind) in actions


def test_a_deadline_runs_from_the_units_own_start() -> None:
    policy = Policy("ab", 1, Limits(deadline_seconds=10.0))
    policy.start()
    policy.on(Joined(worker=0), 0.0)
    assert policy.on(Tick(), 100.0) == []  # handed over, but never reported as begun
    policy.on(Started(worker=0, unit="a"), 100.0)
    assert policy.on(Tick(), 109.0) == []
    actions = policy.on(Tick(), 111.0)
    assert isinstance(actions[0], Kill)
    assert policy.on(Tick(), 112.0) == []  # once
    assert submitted(policy.on(Died(worker=0, reason="deadline"), 113.0)) == []
    assert submitted(policy.on(Joined(worker=1), 114.0))[0] == (1, "a")


def test_a_start_that_is_told_before_the_unit_ahead_has_ended_counts() -> None:
    policy = begun("abcd", 1, deadline_seconds=10.0)
    policy.on(Started(worker=0, unit="a"), 0.0)
    policy.on(Started(worker=0, unit="b"), 4.0)
    policy.on(Ended(worker=0, unit="a", kind="done"), 5.0)
    assert policy.running(8.0) == [(3.0, "b", 0)]
    assert policy.on(Tick(), 14.0) == []
    assert isinstance(policy.on(Tick(), 16.0)[0], Kill)


def test_a_unit_that_ends_while_its_kill_is_on_the_way_leaves_its_slot_to_another() -> None:
    policy = begun("ab", 1, deadline_seconds=10.0)
    policy.on(Started(worker=0, unit="a"), 0.0)
    assert isinstance(policy.on(Tick(), 11.0)[0], Kill)
    actions = policy.on(Ended(worker=0, unit="a", kind="done"), 12.0)
    assert actions == [Complete(unit="a"), Dismiss(worker=0), Hire(worker=1)]
    assert submitted(policy.on(Joined(worker=1), 13.0)) == [(1, "b")]


def test_without_a_deadline_of_its_own_the_longest_unit_of_its_kind_sets_it() -> None:
    limits = Limits(slowness=10.0, min_deadline_seconds=20.0)
    policy = Policy(["quick 1", "quick 2", "slow 1", "slow 2"], 1, limits, kind_of=lambda unit: unit.split()[0])
    policy.start()
    policy.on(Joined(worker=0), 0.0)
    policy.on(Started(worker=0, unit="quick 1"), 0.0)
    assert policy.deadline("quick 2") is None
    policy.on(Ended(worker=0, unit="quick 1", kind="done"), 1.0)
    assert policy.deadline("quick 2") == 20.0
    policy.on(Started(worker=0, unit="quick 2"), 1.0)
    policy.on(Ended(worker=0, unit="quick 2", kind="done"), 5.0)
    assert policy.deadline("quick 2") == 40.0
    policy.on(Started(worker=0, unit="slow 1"), 5.0)
    assert policy.deadline("slow 1") is None
    assert policy.on(Tick(), 5000.0) == []
    policy.on(Ended(worker=0, unit="slow 1", kind="error"), 5000.0)
    assert policy.deadline("slow 2") is None  # a failure says nothing of how long a unit takes


def test_a_fleet_whose_workers_die_at_birth_stops() -> None:
    policy = Policy("abcd", 2, Limits(max_barren_workers=2))
    actions = policy.start()
    for worker in range(4):
        actions = policy.on(Died(worker=worker, reason="ModuleNotFoundError"), 1.0)
    assert isinstance(actions[-1], Stop)
    assert "ModuleNotFoundError" in actions[-1].reason
    assert policy.finished


def test_a_fleet_without_a_worker_waits_and_then_stops() -> None:
    policy = Policy("ab", 1, Limits(wait_for_workers_seconds=60.0))
    policy.start()
    assert policy.on(Tick(), 0.0) == policy.on(Tick(), 59.0) == []
    assert isinstance(policy.on(Tick(), 61.0)[0], Stop)


def test_idle_workers_of_before_are_fed_at_once() -> None:
    actions = Policy("abc", 3, Limits()).start(num_idle=2)
    assert [type(action) for action in actions] == [Hire, Submit, Submit]


@given(
    num_units=st.integers(1, 60),
    num_workers=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    death_rate=st.floats(0, 0.6),
    error_rate=st.floats(0, 0.6),
)
def test_whatever_dies_every_unit_is_settled_exactly_once(
    num_units: int, num_workers: int, seed: int, death_rate: float, error_rate: float
) -> None:
    simulation = Simulation(num_units, num_workers, seed, death_rate, error_rate)
    simulation.perform(simulation.policy.start())
    while not simulation.policy.finished:
        simulation.step()
    assert simulation.settled == {f"unit-{i}": 1 for i in range(num_units)}


def test_a_finished_unit_leaves_nothing_behind_in_the_policy() -> None:
    simulation = Simulation(5_000, 64, seed=0, death_rate=0.001, error_rate=0.001)
    simulation.perform(simulation.policy.start())
    bytes_held: list[int] = []
    num_steps = 0
    while not simulation.policy.finished:
        simulation.step()
        num_steps += 1
        if num_steps % 500 == 0:
            bytes_held.append(len(pickle.dumps(simulation.policy)))
    assert num_steps > 5_000
    assert bytes_held == sorted(bytes_held, reverse=True)
    assert bytes_held[-1] < 0.2 * bytes_held[0]
