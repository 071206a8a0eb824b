"""One definition for any number of processes: real process groups over gloo, in float64."""

from __future__ import annotations

import pytest
import torch
from process_groups import in_world
from torch import Tensor
from world_methods import CONFIGS, OF_THREE, outcome

from ungan_dist.training.world import World

Outcomes = dict[tuple[str, str], dict[str, Tensor]]
CASES = [
    *((name, "frozen") for name in CONFIGS),
    *((name, "global") for name in CONFIGS if "," not in name or name in ("ungan, train", "scrub, rewind")),
    *((name, "own") for name in ("retrain", "fine_tuning", "unsir", "scrub", "ungan")),
]
ASKED_OF_THREE = [(name, statistics) for name in OF_THREE for statistics in ("frozen", "global")]


def furthest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference of any weight, statistic or point of a curve."""
    assert ours.keys() == theirs.keys()
    return max(float((value - theirs[name]).abs().max()) for name, value in ours.items() if value.is_floating_point())


@pytest.fixture(scope="module")
def of_two() -> list[Outcomes]:
    return in_world(2, "world_methods:outcomes", CASES)


@pytest.fixture(scope="module")
def of_three() -> list[Outcomes]:
    return in_world(3, "world_methods:outcomes", ASKED_OF_THREE)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "statistics"), [asked for asked in CASES if asked[1] != "own"])
@pytest.mark.process
def test_two_processes_agree_with_one(of_two: list[Outcomes], name: str, statistics: str) -> None:
    alone = outcome(World(), name, statistics)
    for rank in of_two:
        assert furthest(rank[name, statistics], alone) < 1e-9


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "statistics"), ASKED_OF_THREE)
@pytest.mark.process
def test_three_processes_with_one_empty_share_agree_with_one(
    of_three: list[Outcomes], name: str, statistics: str
) -> None:
    alone = outcome(World(), name, statistics)
    for rank in of_three:
        assert furthest(rank[name, statistics], alone) < 1e-9


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "statistics"), CASES)
@pytest.mark.process
def test_processes_hold_the_same_bits(of_two: list[Outcomes], name: str, statistics: str) -> None:
    first, second = (rank[name, statistics] for rank in of_two)
    assert furthest(first, second) == 0


@pytest.mark.timeout(600)
@pytest.mark.process
def test_statistics_per_process_change_the_result(of_two: list[Outcomes]) -> None:
    distances = {
        name: furthest(of_two[0][name, "own"], outcome(World(), name, "own"))
        for name, statistics in CASES
        if statistics == "own"
    }
    for name, distance in distances.items():
        print(f"{name}: largest difference of two processes with their own batch statistics from one {distance:.1e}")
    assert all(1e-6 < distance < float("inf") for distance in distances.values())


@pytest.mark.timeout(600)
@pytest.mark.process
def test_without_the_sum_of_the_critics_gradients_processes_disagree(of_two: list[Outcomes]) -> None:
    asked = [(name, "frozen") for name in ("ungan", "ungan, all pairs")]
    broken = in_world(2, "world_methods:outcomes_without_reduced_critic", asked)
    for one in asked:
        alone = outcome(World(), *one)
        assert furthest(of_two[0][one], alone) < 1e-9
        assert furthest(broken[0][one], alone) > 1e-6


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("num_rows", range(1, 14))
def test_shares_cover_a_batch_once_with_at_least_two_rows_each(size: int, num_rows: int) -> None:
    batch = torch.arange(num_rows)
    shares = [World(rank=rank, size=size).share(batch) for rank in range(size)]
    assert torch.equal(torch.cat(shares), batch)
    lengths = [len(share) for share in shares]
    assert lengths == sorted(lengths, reverse=True)
    assert num_rows == 1 or 1 not in lengths
    assert max(lengths) - min(length for length in lengths if length) <= 1


def test_a_rank_outside_its_world_is_refused() -> None:
    with pytest.raises(ValueError, match=r"rank must lie in \[0, 2\).*got 2"):
        World(rank=2, size=2)
