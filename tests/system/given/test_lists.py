"""Read user-supplied lists and draw the sets of a run from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from custom_audit import NUM_CLASSES, PER_CLASS, custom_arguments, parse_config, write_noise_parquet

from ungan_dist.config.data import SourceConfig
from ungan_dist.config.recipes import custom
from ungan_dist.data.lists import read_list
from ungan_dist.data.sources.source import load_source
from ungan_dist.runs.given import given_sets
from ungan_dist.runs.plan import make_plan


def test_members_default_to_all_but_the_official_test_examples(project: Path) -> None:
    Path("data").mkdir()
    write_noise_parquet(Path("data/train.parquet"), [f"train-{number}" for number in range(120)])
    write_noise_parquet(Path("data/test.parquet"), [f"test-{number}" for number in range(60)])
    Path("forget.csv").write_text("train-3\ntrain-4")
    config = custom(data="data", forget="forget.csv", original="weights.safetensors")
    source = load_source(config.source)
    sets = given_sets(config, source)
    pool, draw = sets.split.pool, sets.draws[0]
    assert pool[draw.train].tolist() == list(range(120))
    assert pool[draw.forget].tolist() == [3, 4]
    outside = np.concatenate([pool[draw.non_members], sets.split.unseen, sets.split.test])
    assert sorted(outside) == list(range(120, 180))
    assert len(draw.non_members) == 40
    assert any("120 examples were trained on and 60 were not. 40 of these are non-mem" in note for note in sets.notes)


def test_a_list_as_long_as_a_shadow_models_half_cannot_be_unlearned_by_it(project: Path) -> None:
    Path("data").mkdir()
    write_noise_parquet(Path("data/train.parquet"), [f"train-{number}" for number in range(120)])
    write_noise_parquet(Path("data/test.parquet"), [f"test-{number}" for number in range(60)])
    config = custom(data="data", forget="forget.csv", original="weights.safetensors")
    unlearned = replace(config.attack, fnr=0.05, unlearned_shadows=("retrain",))
    source = load_source(config.source)
    for number, attack in ((79, unlearned), (80, replace(unlearned, unlearned_shadows=()))):  # each is trained on 80
        Path("forget.csv").write_text("\n".join(f"train-{example}" for example in range(number)))
        draw = given_sets(replace(config, attack=attack), source).draws[0]
        assert len(draw.forget) == number
    with pytest.raises(ValueError, match=r"lists 80 examples, and each shadow model is trained on 80"):
        given_sets(replace(config, attack=unlearned), source)


def test_the_sets_follow_the_lists(pictures: Path, lists: Path, weights: Path) -> None:
    more = ("--original", str(weights), "--members", str(lists / "members.npy"))
    config = parse_config(*custom_arguments(pictures, lists, *more))
    source = load_source(config.source)
    sets = given_sets(config, source)
    pool, draw = sets.split.pool, sets.draws[0]
    assert (pool[draw.forget] % PER_CLASS < 2).all()
    assert sorted(pool[draw.train]) == np.load(lists / "members.npy").tolist()
    parts = [pool[draw.retain], pool[draw.forget], pool[draw.non_members], sets.split.unseen, sets.split.test]
    together = np.concatenate(parts)
    # at most one example is left over, so that the pool can be halved
    assert len(np.unique(together)) == len(together) >= len(source.images) - 1
    assert len(pool) % 2 == 0


def test_another_list_inside_the_pool_trains_no_shadow_model(pictures: Path, lists: Path) -> None:
    """Shadow models are reused although neither weights nor members are given."""

    def shadows(indices: list[int]) -> tuple[list[str], list[str]]:
        (lists / "forget.csv").write_text("\n".join(map(str, indices)))
        plan = make_plan(parse_config(*custom_arguments(pictures, lists)))
        return [unit.id for unit in plan.shadows], plan.notes

    (lists / "forget.csv").write_text("0")
    pool = make_plan(parse_config(*custom_arguments(pictures, lists))).split.pool
    stranger = int(np.setdiff1d(np.arange(NUM_CLASSES * PER_CLASS), pool)[0])
    first, notes = shadows(pool[:5].tolist())
    assert not any("outside of the fixed pool" in note for note in notes)
    assert shadows(pool[3::9].tolist())[0] == first
    other, notes = shadows([*pool[:5].tolist(), stranger])
    assert other != first
    assert any("Of the 6 listed examples, 1 is outside the pool" in note for note in notes)


def test_ids_and_indices_give_the_same_sets(pictures: Path, lists: Path) -> None:
    by_index = given_sets(
        parse_config(*custom_arguments(pictures, lists)),
        load_source(parse_config(*custom_arguments(pictures, lists)).source),
    )
    ids = [f"class{label:02}/{number:02}.png" for label in range(NUM_CLASSES) for number in range(2)]
    (lists / "forget.csv").write_text("\n".join(ids))
    by_id = given_sets(
        parse_config(*custom_arguments(pictures, lists)),
        load_source(parse_config(*custom_arguments(pictures, lists)).source),
    )
    assert by_id.given_hash == by_index.given_hash


def test_numbers_are_ids_if_the_ids_are_numbers(project: Path) -> None:
    """A number that is not an id must not be read as an index, which would name another example."""
    write_noise_parquet(Path("data.parquet"), [str(1000 + number) for number in range(120)])
    source = load_source(SourceConfig(kind="auto", path="data.parquet"))
    np.save("ids.npy", np.array([1003, 1001]))
    assert read_list(Path("ids.npy"), source).tolist() == [1, 3]
    Path("ids.txt").write_text("5\n")
    with pytest.raises(ValueError, match="line 1: the data has no example '5'"):
        read_list(Path("ids.txt"), source)


def test_ambiguous_ids_and_mixed_lists_are_refused(project: Path) -> None:
    write_noise_parquet(Path("data.parquet"), ["twin", "twin", *(f"one-{number}" for number in range(100))])
    source = load_source(SourceConfig(kind="auto", path="data.parquet"))
    Path("ids.txt").write_text("one-3\ntwin\n")
    with pytest.raises(ValueError, match="line 2: more than one example of the data has the id 'twin'"):
        read_list(Path("ids.txt"), source)
    Path("ids.txt").write_text("one-3\n4\n")
    with pytest.raises(ValueError, match=r"line 2: the data has no example '4'.*ids or indices, not both"):
        read_list(Path("ids.txt"), source)
    Path("ids.txt").write_text("3\n4\n")
    assert read_list(Path("ids.txt"), source).tolist() == [3, 4]
