"""The sets drawn for a forget list: training, unseen and the pool that lists share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ungan_dist.config.attack import AttackConfig
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.recipes import custom
from ungan_dist.data.list_split import MEMBER_FRACTION, MEMBER_FRACTION_WITH_TEST
from ungan_dist.data.sources.source import Source
from ungan_dist.runs.given import GivenSets, given_sets

NUM, NUM_TEST = 200, 60


def source(num_test: int = 0) -> Source:
    """Make a source of 200 examples, with official test examples before the last hundred."""
    count = NUM + num_test
    return Source(
        images=np.zeros((count, 4, 4, 1), np.uint8),
        labels=np.arange(count) % 4,
        num_classes=4,
        class_names=("a", "b", "c", "d"),
        title="nothing",
        bundled=False,
        test=np.arange(100, 100 + num_test) if num_test else None,
        mean=(0.5,),
        std=(1.0,),
        ids=tuple(f"person {number}" for number in range(count)),
    )


def config(folder: Path, forget: list[int], **more: str) -> AuditConfig:
    (folder / "forget.csv").write_text("\n".join(map(str, forget)))
    attack = AttackConfig(fnr=0.1)
    return replace(custom(data="nothing", forget=str(folder / "forget.csv"), **more), attack=attack)


def members(folder: Path, indices: list[int]) -> str:
    (folder / "members.csv").write_text("\n".join(map(str, indices)))
    return str(folder / "members.csv")


def parts(sets: GivenSets) -> dict[str, set[int]]:
    pool = sets.split.pool
    return {
        "retain": set(pool[sets.draws[0].retain]),
        "forget": set(pool[sets.draws[0].forget]),
        "non_members": set(pool[sets.draws[0].non_members]),
        "unseen": set(sets.split.unseen),
        "test": set(sets.split.test),
    }


def check(sets: GivenSets) -> None:
    """Assert that sets are disjoint and that the pool can be halved."""
    found = parts(sets)
    assert sum(map(len, found.values())) == len(set().union(*found.values()))
    assert len(sets.split.pool) % 2 == 0
    assert all(found.values())


def fixed_pool(folder: Path, data: Source) -> np.ndarray:
    """Return the pool of a list inside it."""
    found = (given_sets(config(folder, [number]), data) for number in range(NUM))
    return next(sets.split.pool for sets in found if not sets.notes)


@pytest.mark.parametrize("num_test", [0, NUM_TEST])
def test_lists_inside_of_the_pool_share_it(tmp_path: Path, num_test: int) -> None:
    data = source(num_test)
    pool = fixed_pool(tmp_path, data)
    lists = [pool[:1].tolist(), pool[5:25].tolist(), pool[::4].tolist()]
    found = [given_sets(config(tmp_path, some), data) for some in lists]
    share = MEMBER_FRACTION_WITH_TEST if num_test else MEMBER_FRACTION
    for some, sets in zip(lists, found, strict=True):
        check(sets)
        assert parts(sets)["forget"] == set(some)
        assert np.array_equal(sets.split.pool, found[0].split.pool)
        assert np.array_equal(sets.split.unseen, found[0].split.unseen)
        assert np.array_equal(sets.split.test, found[0].split.test)
        assert len(sets.draws[0].train) == len(sets.draws[0].non_members) == round(share * NUM)
        assert not any("outside of the fixed pool" in note for note in sets.notes)
    assert len({sets.given_hash for sets in found}) == 3


def test_the_remedy_for_too_few_to_retain_works(tmp_path: Path) -> None:
    small = config(tmp_path, [3])
    refused = replace(small, attack=AttackConfig(fnr=0.01))
    with pytest.raises(ValueError, match=r"add pictures, .*or set --attack.fnr to") as found:
        given_sets(refused, source())
    assert "shorten" not in str(found.value)
    value = float(str(found.value).rsplit(" ", 1)[1])
    check(given_sets(replace(small, attack=AttackConfig(fnr=value)), source()))
    with pytest.raises(ValueError, match="shorten the list"):
        given_sets(config(tmp_path, list(range(75))), source())


def test_listed_outsiders_are_exchanged_with_a_note(tmp_path: Path) -> None:
    inside = fixed_pool(tmp_path, source())[:10].tolist()
    base = given_sets(config(tmp_path, inside), source())
    outsiders = [int(base.split.unseen[0]), int(base.split.test[0]), int(base.split.test[1])]
    sets = given_sets(config(tmp_path, [*inside, *outsiders]), source())
    check(sets)
    assert parts(sets)["forget"] == {*inside, *outsiders}
    assert len(np.setdiff1d(base.split.pool, sets.split.pool)) == 3
    assert len(sets.split.pool) == len(base.split.pool)
    assert sum(map(len, parts(sets).values())) == NUM
    assert any("Of the 13 listed examples, 3 are outside the pool" in note for note in sets.notes)


def test_models_trained_here_never_see_official_test_examples(tmp_path: Path) -> None:
    data = source(NUM_TEST)
    assert data.test is not None
    sets = given_sets(config(tmp_path, [0, 1, 250]), data)
    check(sets)
    assert parts(sets)["test"] == set(data.test)
    assert len(sets.split.pool) == 2 * round(MEMBER_FRACTION_WITH_TEST * NUM)
    with pytest.raises(ValueError, match=r"line 2: example 100 is an official test example,.*--members"):
        given_sets(config(tmp_path, [0, 100]), data)


def test_a_list_of_more_than_half_of_the_pool_is_refused_with_the_numbers(tmp_path: Path) -> None:
    message = r"lists 90 of 200 examples; without --members the original is trained on 80, which leaves 0 to retain"
    with pytest.raises(ValueError, match=message):
        given_sets(config(tmp_path, list(range(90))), source())


def test_official_test_examples_are_the_test_set_if_members_are_given(tmp_path: Path) -> None:
    data = source(NUM_TEST)
    assert data.test is not None
    train = np.setdiff1d(np.arange(NUM + NUM_TEST), data.test)
    chosen = config(tmp_path, [0, 1], members=members(tmp_path, train[:80].tolist()))
    sets = given_sets(chosen, data)
    check(sets)
    # 120 others were not trained on: enough for D^s and D_u
    assert parts(sets)["test"] == set(data.test)
    assert parts(sets)["non_members"] <= set(train[80:])
    assert parts(sets)["unseen"] <= set(train[80:])
    assert not any("stand in" in note for note in sets.notes)

    chosen = config(tmp_path, [0, 1], members=members(tmp_path, train[:180].tolist()))
    sets = given_sets(chosen, data)
    check(sets)
    found = parts(sets)
    assert found["test"] < set(data.test)
    assert set(train[180:]) <= found["non_members"] | found["unseen"]
    lent = NUM_TEST - len(found["test"])
    assert any(f"{lent} of its 60 stand in D^s and D_u" in note for note in sets.notes)


def test_listed_non_members_are_named_as_listed(tmp_path: Path) -> None:
    data = source(NUM_TEST)
    listed = config(tmp_path, [0], members=members(tmp_path, list(range(50))))
    (tmp_path / "forget.csv").write_text("person 3\nperson 77\n")
    with pytest.raises(
        ValueError, match=r"line 2: example 'person 77' was not trained on \(it is not in .*members.csv"
    ):
        given_sets(listed, data)
    taken = config(tmp_path, [0], original="weights.safetensors")
    (tmp_path / "forget.csv").write_text("person 3\nperson 107\n")
    message = r"'person 107' was not trained on \(without --members, all but the official .* members\).* with --members"
    with pytest.raises(ValueError, match=message):
        given_sets(taken, data)


def test_seeds_share_the_sets_of_a_list_with_a_note(tmp_path: Path) -> None:
    chosen = config(tmp_path, [0, 1])
    assert not any("seeds" in note for note in given_sets(chosen, source()).notes)
    notes = given_sets(replace(chosen, num_seeds=3), source()).notes
    assert any("The 3 seeds differ in training alone" in note for note in notes)


def test_a_note_names_a_stand_in_for_the_original(tmp_path: Path) -> None:
    (tmp_path / "u.safetensors").write_bytes(b"weights")
    more = {"unlearned": str(tmp_path / "u.safetensors"), "members": members(tmp_path, list(range(100)))}
    notes = given_sets(config(tmp_path, [0, 1], **more), source()).notes
    assert any("The row Original is a stand-in" in note for note in notes)
    notes = given_sets(config(tmp_path, [0, 1], original=more["unlearned"], **more), source()).notes
    assert not any("stand-in" in note for note in notes)


def test_a_list_of_whole_classes_is_compared_with_never_seen_examples_of_them(tmp_path: Path) -> None:
    trained = list(range(120))
    whole = [number for number in trained if number % 4 in (1, 2)]
    chosen = config(tmp_path, whole, members=members(tmp_path, trained))
    sets = given_sets(chosen, source())
    check(sets)
    pool = sets.split.pool
    assert {number % 4 for number in parts(sets)["non_members"]} == {1, 2}
    assert {number % 4 for number in pool[sets.draws[0].others]} == {0, 3}
    assert {number % 4 for number in parts(sets)["retain"]} == {0, 3}
    everywhere = np.concatenate(
        [getattr(sets.draws[0], name) for name in ("retain", "forget", "non_members", "others")]
    )
    assert sorted(everywhere) == list(range(len(pool)))
    assert sets.split.has_classes
    assert not sets.split.is_drawn_class
    mixed = config(tmp_path, [*whole, 0], members=members(tmp_path, trained))
    with pytest.raises(ValueError, match=r"classes 'b' and 'c', but only some of class 'a'.*in one run, and the other"):
        given_sets(mixed, source())
    few = config(tmp_path, [number for number in range(30) if number % 4 == 1], members=members(tmp_path, trained[:30]))
    with pytest.raises(
        ValueError, match=r"class 'b', 8 examples are trained on and .* at least 12 of each: list fewer"
    ):
        given_sets(few, source())


def test_a_list_of_a_whole_class_without_members_names_the_option_for_classes(tmp_path: Path) -> None:
    whole = [number for number in range(NUM) if number % 4 == 1]
    with pytest.raises(ValueError, match=r"every training example of class 'b'.*--split\.forget class=b"):
        given_sets(config(tmp_path, whole), source())
