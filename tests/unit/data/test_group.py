"""Sets of an audit that forgets whole classes, counted by brute force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import GivenConfig, SplitConfig
from ungan_dist.config.forget_rule import parse_forget
from ungan_dist.config.identity import identity
from ungan_dist.config.recipes import custom, digits
from ungan_dist.data.memorisation import RECORDS_FILE, read_memorisation
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import Split, list_evaluated_sets
from ungan_dist.runs.drawn import draw_all_sets

NAMES = ("cat", "dog", "emu", "fox", "gnu")
LABELS = np.arange(250) % 5
SCORES = np.random.default_rng(3).normal(size=250)


def make_source(labels: np.ndarray, num_test: int = 0) -> Source:
    count = len(labels)
    return Source(
        images=np.zeros((count, 4, 4, 1), np.uint8),
        labels=labels,
        num_classes=len(NAMES),
        class_names=NAMES,
        title="nothing",
        bundled=False,
        test=np.arange(count - num_test, count) if num_test else None,
        mean=(0.5,),
        std=(1.0,),
    )


def forgetting(forget: str, train: int = 100, seed: int = 42, scores: Path | None = None) -> AuditConfig:
    split = SplitConfig(train=train, shadow_pool=train, unseen=20, forget=forget, seed=seed)
    given = GivenConfig(scores=None if scores is None else str(scores))
    return replace(digits(num_seeds=3), split=split, given=given, attack=replace(digits().attack, fnr=0.1))


@given(
    seed=st.integers(0, 2**32), num_test=st.sampled_from([0, 30]), forget=st.sampled_from(["class=emu", "classes=0,3"])
)
def test_the_sets_partition_the_data_and_none_of_the_class_is_retained(seed: int, num_test: int, forget: str) -> None:
    labels = np.random.default_rng(seed).integers(0, 5, 250)
    drawn = draw_all_sets(forgetting(forget, seed=seed), make_source(labels, num_test))
    forgotten = {2} if forget == "class=emu" else {0, 3}
    pool = drawn.split.pool
    assert sorted(np.concatenate([pool, drawn.split.unseen, drawn.split.test])) == list(range(250))
    for draw in drawn.draws:
        sets = {name: pool[getattr(draw, name)] for name in ("retain", "forget", "non_members", "others")}
        assert sorted(np.concatenate(list(sets.values()))) == pool.tolist()
        assert len(draw.train) == 100
        for name, examples in sets.items():
            is_forgotten = [labels[example] in forgotten for example in examples]
            assert all(is_forgotten) if name in ("forget", "non_members") else not any(is_forgotten), name
        in_pool = sum(labels[example] in forgotten for example in pool)
        assert (len(draw.forget), len(draw.non_members)) == (in_pool // 2, in_pool - in_pool // 2)
    assert len({draw.forget.tobytes() for draw in drawn.draws}) == 3
    evaluated = list_evaluated_sets(drawn.split, drawn.draws[0])
    # a small test set may have none of the classes
    by_class = evaluated.get("test_forgotten", np.zeros(0, int)), evaluated["test_others"]
    assert sorted(np.concatenate(by_class)) == drawn.split.test.tolist()
    assert {int(label) for label in labels[by_class[0]]} <= forgotten
    assert not forgotten & {int(label) for label in labels[by_class[1]]}


def test_each_example_of_a_class_is_forgotten_in_about_half_of_the_seeds() -> None:
    source = make_source(LABELS)
    config = replace(forgetting("class=1"), num_seeds=400)
    drawn = draw_all_sets(config, source)
    counts = sum(np.isin(np.arange(200), draw.forget).astype(int) for draw in drawn.draws)
    in_class = counts[drawn.split.group_in_pool]
    assert (counts > 0).sum() == len(in_class)
    # 400 draws of about one half: four standard deviations are 40
    assert (abs(in_class - 200) < 45).all()


def test_forgetting_a_class_leaves_the_pool_and_its_shadow_models_as_they_are() -> None:
    source = make_source(LABELS)
    random, by_class = (draw_all_sets(forgetting(forget), source) for forget in ("random", "class=cat"))
    for name in ("pool", "unseen", "test"):
        assert np.array_equal(getattr(random.split, name), getattr(by_class.split, name))
    assert random.given_hash == ""
    assert list_evaluated_sets(random.split, random.draws[0]).keys() == {"retain", "forget", "unseen", "test"}


def test_a_class_goes_by_its_name_or_its_number_and_both_name_the_same_examples() -> None:
    drawn = [draw_all_sets(forgetting(forget), make_source(LABELS)) for forget in ("class=fox", "classes=3", "class=1")]
    assert drawn[0].given_hash == drawn[1].given_hash != drawn[2].given_hash
    # where names are numbers, a number is a name
    named = replace(make_source(LABELS), class_names=("4", "3", "2", "1", "0"))
    group = draw_all_sets(forgetting("class=4"), named).split.group
    assert group is not None
    assert group.title == "class '4'"
    assert set(LABELS[group.indices]) == {0}


def test_the_hash_of_a_run_is_as_before_by_default() -> None:
    assert "forget" not in identity(digits())["split"]
    assert identity(forgetting("class=1"))["split"]["forget"] == "class=1"
    listed = custom(data="x", forget="f.csv")
    assert identity(replace(listed, split=replace(listed.split, forget="list"))) == identity(listed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "class",
        "class=",
        "classes=1,1",
        "classes=1,",
        "random=0",
        "random=0.1",
        "Class=1",
        "subclass=",
        "hardest",
        "hardest=0",
        "easiest=1.5",
        "easiest=nan",
    ],
)
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"split\.forget"):
        SplitConfig(forget=text)


def test_a_name_may_hold_a_comma_and_rules_are_parsed_once() -> None:
    assert parse_forget("class=bird, small").names == ("bird, small",)
    assert SplitConfig(train=100, shadow_pool=100, forget="random=7").num_forget == 7


@pytest.mark.parametrize(
    ("forget", "labels", "message"),
    [
        ("class=yak", LABELS, "no class 'yak': name one of cat, dog, emu, fox, gnu, or give a number of 0 … 4"),
        ("class=5", LABELS, "no class '5'"),
        ("class=3, dog", LABELS, "no class '3, dog': for several classes write classes=3,dog"),
        ("classes=cat,0", LABELS, "names class 'cat' twice"),
        ("classes=0,1,2,3", LABELS, "1 class is left"),
        # 20 examples of a class among 250, 16 or so in the pool
        ("class=0", np.where(np.arange(250) < 20, 0, 1 + LABELS % 4), "at least 12 of each: raise split.train"),
        ("classes=0,1", np.where(np.arange(250) < 245, LABELS % 2, 2 + LABELS % 3), "attack.fnr 0.1 needs"),
    ],
)
def test_what_cannot_be_forgotten_is_refused_with_a_remedy(forget: str, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw_all_sets(forgetting(forget), make_source(labels))


def test_a_rule_and_a_list_contradict_each_other() -> None:
    listed = custom(data="x", forget="f.csv")
    with pytest.raises(ValueError, match=r"both say what to forget: give one"):
        replace(listed, split=replace(listed.split, forget="class=1"))
    with pytest.raises(ValueError, match=r"need a forget list, with every training example of the class: name it"):
        replace(listed, split=replace(listed.split, forget="class=1"), given=GivenConfig(members="m.csv"))
    with pytest.raises(ValueError, match=r"needs the list: name it by --given\.forget"):
        forgetting("list")


def test_the_sets_of_a_split_without_a_group_have_no_classes() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert not Split(pool=none, unseen=none, test=none).has_classes


def test_a_subclass_is_forgotten_and_the_rest_of_its_class_is_retained() -> None:
    sublabels = np.arange(400) % 20
    source = replace(
        make_source(sublabels // 4), sublabels=sublabels, subclass_names=tuple(f"sub{n}" for n in range(20))
    )
    # 12 of 20 examples of a subclass are too few for either half
    with pytest.raises(ValueError, match=r"subclass 'sub6', .* at least 12 of each"):
        draw_all_sets(forgetting("subclass=sub6"), source)
    for forget in ("subclass=sub6", "subclass=6"):
        many = replace(source, sublabels=sublabels % 8, labels=sublabels % 8 // 4)
        with pytest.raises(ValueError, match="1 class is left"):
            draw_all_sets(forgetting("class=0", train=150), many)
        drawn = draw_all_sets(forgetting(forget, train=150), many)
        pool, draw = drawn.split.pool, drawn.draws[0]
        for name, here in (("forget", True), ("non_members", True), ("retain", False), ("others", False)):
            assert {example % 20 % 8 == 6 for example in pool[getattr(draw, name)]} == {here}
        assert 1 in many.labels[pool[draw.retain]]
    with pytest.raises(ValueError, match=r"nothing has no subclasses: --source\.kind cifar20"):
        draw_all_sets(forgetting("subclass=6"), make_source(LABELS))


def write_records(folder: Path, scores: np.ndarray, examples: np.ndarray) -> Path:
    """Write records as an export does: every method and seed repeats the examples."""
    both = np.concatenate([examples, examples])
    table = pa.table(
        {"example": both, "label": LABELS[both], "in_mean": scores[both] + 1.5, "out_mean": np.full(len(both), 1.5)}
    )
    pq.write_table(table, folder / RECORDS_FILE)
    return folder


@pytest.mark.parametrize("kind", ["hardest", "easiest"])
@pytest.mark.parametrize("amount", ["15", "0.15"])
def test_the_hardest_examples_of_d_are_forgotten_and_compared_with_the_hardest_others(
    tmp_path: Path, kind: str, amount: str
) -> None:
    source = make_source(LABELS)
    config = forgetting(f"{kind}={amount}", scores=write_records(tmp_path, SCORES, np.arange(250)))
    drawn = draw_all_sets(config, source)
    pool = drawn.split.pool
    ranked = sorted(pool, key=lambda example: SCORES[example] if kind == "easiest" else -SCORES[example])
    for draw in drawn.draws:
        assert len(draw.forget) == len(draw.non_members) == 15
        assert set(pool[draw.forget]) | set(pool[draw.non_members]) == set(ranked[:30])
        assert len(draw.train) == 100
    assert "test_others" not in list_evaluated_sets(drawn.split, drawn.draws[0])
    # other scores are another run
    other = forgetting(f"{kind}={amount}", scores=write_records(tmp_path, SCORES[::-1], np.arange(250)))
    assert draw_all_sets(other, source).given_hash != drawn.given_hash


def test_records_of_another_pool_or_data_are_refused(tmp_path: Path) -> None:
    config = forgetting("hardest=15", scores=write_records(tmp_path, SCORES, np.arange(100)))
    with pytest.raises(ValueError, match=r"no score of .* of the 200 examples of the pool: name records"):
        draw_all_sets(config, make_source(LABELS))
    with pytest.raises(ValueError, match=r"records of other data than these 250"):
        draw_all_sets(config, make_source((LABELS + 1) % 5))
    (tmp_path / RECORDS_FILE).unlink()
    with pytest.raises(ValueError, match=rf"does not exist: write it by ungan-dist export {tmp_path} --records"):
        draw_all_sets(config, make_source(LABELS))
    with pytest.raises(ValueError, match=r"name its folder by --given\.scores"):
        forgetting("hardest=15")
    with pytest.raises(ValueError, match=r"leave it out"):
        forgetting("class=1", scores=tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("example", [0.0, 1.0], "whole numbers in its column example, and has values of type double"),
        ("example", ["0", "1"], "whole numbers in its column example, and has values of type string"),
        ("label", [0, None], "its column label, and has 1 empty cells"),
        ("in_mean", ["1", "2"], "fractions in its column in_mean, and has values of type string"),
        ("in_mean", [[1.0], [2.0]], "its column in_mean, and has values of type list"),
        ("out_mean", [0.0, np.inf], "log-odds of example 1 that are not finite"),
        ("in_mean", [np.nan, 1.0], "log-odds of example 0 that are not finite"),
        ("example", [1, 1], "two scores of example 1"),
    ],
)
def test_malformed_records_are_refused(column: str, values: list[object], message: str, tmp_path: Path) -> None:
    columns = {"example": [0, 1], "label": [0, 0], "in_mean": [1.0, 2.0], "out_mean": [0.5, 0.5]} | {column: values}
    pq.write_table(pa.table(columns), tmp_path / RECORDS_FILE)
    with pytest.raises(ValueError, match=rf"{RECORDS_FILE} (must have|has) .*{message}"):
        read_memorisation(tmp_path, np.zeros(3, np.int64))


@pytest.mark.parametrize(
    "spellings",
    [
        ("class=3", "class= 3", "classes=3", " classes = 3 "),
        ("classes=2,10", "classes=10, 2"),
        ("random=10", "random= 010"),
        ("hardest=0.1", "hardest=0.10", "hardest=1e-1"),
    ],
)
def test_one_rule_is_one_run_however_it_is_spelled(spellings: tuple[str, ...]) -> None:
    assert {SplitConfig(forget=text).forget for text in spellings} == {spellings[0]}
    assert parse_forget(spellings[0]).text == spellings[0]
