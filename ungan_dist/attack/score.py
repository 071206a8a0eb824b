"""Rows of the table, computed from the evidence: both columns, their intervals and the verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from ungan_dist.attack.distances import measure_distances
from ungan_dist.attack.evidence import Evidence, Interval, Row
from ungan_dist.attack.gaps import LEVEL, Key, compare_attacks, measure_influences
from ungan_dist.attack.intervals import (
    SEEDS_FOR_T,
    ResampledScores,
    bootstrap,
    bootstrap_interval,
    draw_resample_counts,
    resample_share_above,
    resample_share_below,
    student_t_interval,
)
from ungan_dist.attack.losses import measure_losses
from ungan_dist.attack.mann_whitney import Influence, average_influences
from ungan_dist.attack.metrics import examples_needed, operating_point, tnr_rank, tpr_at_fpr, tpr_rank
from ungan_dist.attack.records import count_low_p_values
from ungan_dist.attack.relearning import measure_relearning
from ungan_dist.attack.stages import split_row
from ungan_dist.attack.verdicts import REFERENCE, VERDICT_LEVEL, combine_attacks
from ungan_dist.config.attack import AttackConfig
from ungan_dist.config.methods import title_of
from ungan_dist.data.seeds import derive_seed

FURTHER_FNR = 0.001
"""Reported in addition to the headline false negative rate if there are enough retain examples."""
Cell = tuple[str, str]
"""Statistic and its argument: an error rate as written, or for accuracy a set."""
Cells = dict[Cell, float]
"""One method's estimates under one seed. Cells that cannot be computed are absent."""


class ResampledCell(NamedTuple):
    """A cell on resampled examples."""

    values: Float64[np.ndarray, " resamples"]
    examples: Sequence[int]
    """Examples behind the share."""


Resamples = dict[Cell, ResampledCell]
"""One method's resampled cells under one seed."""


def score_rows(
    evidence: Sequence[Evidence],
    attack: AttackConfig,
    *,
    num_test: int | Mapping[str, int] | None = None,
    level: float = VERDICT_LEVEL,
    from_half: bool = False,
) -> list[Row]:
    """Compute the table's rows, one per method, in the order in which the methods first appear.

    A method with fewer seeds than others is scored on the seeds it has. It is compared with Retrain on the seeds that
    both have. If there are none, it is compared with .5, which is Retrain's AUC by construction. Several unlearnings of
    one original are averaged, so that a seed has one value in every cell.

    Args:
        evidence: measurements of every finished method, seed and unlearning.
        attack: options of the attack and the verdicts.
        num_test: number of test examples, by set if there are several; required for the interval of test accuracy with
            fewer than three seeds.
        level: level of the gaps' intervals, which is higher in a look of several.
        from_half: measure all gaps from .5. That is exact where the members of a class were drawn at random, and
            narrower than from Retrain, whose scores on a class that it never saw say nothing of other models' scores.

    Raises:
        ValueError: evidence is missing or repeated, methods of one seed have different sets, scores are not finite,
            or there are fewer than 1/fnr retain examples.
    """
    _check(evidence)
    models: defaultdict[Key, list[Evidence]] = defaultdict(list)
    seeds_of: dict[str, list[int]] = {}
    for item in sorted(evidence, key=lambda item: item.unlearning):
        models[item.method, item.seed].append(item)
    for method in dict.fromkeys(item.method for item in evidence):
        seeds_of[method] = sorted(seed for one, seed in models if one == method)
    cells = {key: _average_cells([_cells(item, attack) for item in items]) for key, items in models.items()}
    single = measure_influences(models)
    influences = {name: {key: average_influences(some) for key, some in of.items()} for name, of in single.items()}
    tests = num_test if isinstance(num_test, Mapping) else {"test": num_test or 0}
    few = {method for method, seeds in seeds_of.items() if len(seeds) < SEEDS_FOR_T}
    resamples = _resample([item for item in evidence if item.method in few], cells, attack, tests)
    sizes = {name: min(len(getattr(item, name)) for item in evidence) for name in ("retain", "non_members")}
    reference = "" if from_half else REFERENCE
    rows = [_row(method, seeds_of, cells, resamples, influences, attack, level, reference) for method in seeds_of]
    distances, relearning = measure_distances(evidence), measure_relearning(evidence)
    of = {row.method: [item for item in evidence if item.method == row.method] for row in rows}
    return [
        replace(
            row,
            distances=distances.get(row.method, {}),
            relearning=relearning.get(row.method),
            loss=measure_losses(row.method, seeds_of, cells, {**sizes, **tests}),
            stages=split_row(row.method, reference, models, next(iter(single.values()))),
            low_p_values=count_low_p_values(of[row.method]),
            low_p_values_of_non_members=count_low_p_values(of[row.method], of_non_members=True),
        )
        for row in rows
    ]


def _row(
    method: str,
    seeds_of: dict[str, list[int]],
    cells: dict[Key, Cells],
    resamples: dict[Key, Resamples],
    influences: dict[str, dict[Key, Influence]],
    attack: AttackConfig,
    level: float,
    reference: str,
) -> Row:
    keys = [(method, seed) for seed in seeds_of[method]]
    shared = [cell for cell in cells[keys[0]] if all(cell in cells[key] for key in keys)]

    def interval(cell: Cell) -> Interval:
        return _interval([cells[key][cell] for key in keys], [resamples[key][cell] for key in keys if key in resamples])

    def by_rate(statistic: str, rates: Sequence[float], examples: str) -> dict[str, Interval | str]:
        return {
            str(rate): interval((statistic, str(rate)))
            if (statistic, str(rate)) in shared
            else f"n/a (needs ≥ {examples_needed(rate):,} {examples} examples)"
            for rate in rates
        }

    attacks = compare_attacks(method, seeds_of, influences, level, reference=reference)
    return Row(
        method=method,
        title=title_of(method),
        accuracy={name: interval((statistic, name)) for statistic, name in shared if statistic == "accuracy"},
        tnr_at_fnr=by_rate("tnr", _fnrs(attack), "retain"),
        achieved_fnr={
            str(fnr): [cells[key]["fnr", str(fnr)] for key in keys if ("fnr", str(fnr)) in shared]
            for fnr in _fnrs(attack)
        },
        auc=next(iter(attacks.values())).auc,
        tpr_at_fpr=by_rate("tpr", attack.fprs, "never-seen"),
        tpr_at_fpr_flipped=by_rate("flipped tpr", attack.fprs, "never-seen"),
        verdict=combine_attacks(attacks, attack.delta),
        attacks=attacks,
    )


def _interval(estimates: list[float], drawn: list[ResampledCell]) -> Interval:
    """Compute the interval of a share. Examples that several seeds share count once."""
    if len(estimates) >= SEEDS_FOR_T:
        return student_t_interval(estimates, LEVEL, bounds=(0.0, 1.0))
    num_examples = len(set().union(*(one.examples for one in drawn)))
    return bootstrap_interval(estimates, np.stack([one.values for one in drawn]), LEVEL, num_examples=num_examples)


def _cells(item: Evidence, attack: AttackConfig) -> Cells:
    """Compute every cell for which the evidence has enough examples."""
    retain, forget, non_members = _scores(item)
    cells: Cells = {("accuracy", name): share for name, share in item.accuracy.items()}
    for fnr in _fnrs(attack):
        # If the retain set is too small for the headline rate, the metric raises an error.
        if fnr == attack.fnr or len(retain) >= examples_needed(fnr):
            point = operating_point(retain, forget, fnr)
            cells["tnr", str(fnr)], cells["fnr", str(fnr)] = point.tnr, point.fnr
    for fpr in attack.fprs:
        if len(non_members) >= examples_needed(fpr):
            cells["tpr", str(fpr)] = tpr_at_fpr(forget, non_members, fpr)
            cells["flipped tpr", str(fpr)] = tpr_at_fpr(-forget, -non_members, fpr)
    return cells


def _average_cells(models: Sequence[Cells]) -> Cells:
    """Average the cells of a seed's unlearnings, as far as all of them have a cell."""
    first = models[0]
    return {cell: float(np.mean([one[cell] for one in models])) for cell in first if all(cell in one for one in models)}


def _resample(
    evidence: Sequence[Evidence], cells: dict[Key, Cells], attack: AttackConfig, tests: Mapping[str, int]
) -> dict[Key, Resamples]:
    """Compute cells on resampled examples. All methods of a seed share the draws."""
    resamples: dict[Key, Resamples] = {}
    for seed in sorted({item.seed for item in evidence}):
        items = [item for item in evidence if item.seed == seed]
        # the names seed the draws, so non-members keep their first name here
        counts = [
            draw_resample_counts(len(scores), attack.num_resamples, derive_seed("bootstrap", name, seed))
            for name, scores in zip(("retain", "forget", "never_seen"), _scores(items[0]), strict=True)
        ]
        for method in dict.fromkeys(item.method for item in items):
            unlearned = [item for item in items if item.method == method]
            of_scores = [cell for cell in cells[method, seed] if cell[0] in ("tnr", "tpr", "flipped tpr")]
            statistics = partial(_resampled_cells, of_scores)
            values = np.mean([bootstrap(statistics, _scores(item), counts) for item in unlearned], axis=0)
            forget = unlearned[0].forget.tolist()
            resamples[method, seed] = {
                cell: ResampledCell(drawn, forget) for cell, drawn in zip(of_scores, values, strict=True)
            } | {
                ("accuracy", name): _resampled_accuracy(unlearned, name, tests, attack.num_resamples)
                for name in unlearned[0].accuracy
            }
    return resamples


def _resampled_cells(
    cells: Sequence[Cell], retain: ResampledScores, forget: ResampledScores, non_members: ResampledScores
) -> Float64[np.ndarray, "cells resamples"]:
    num_retain, num_non_members = len(retain.values), len(non_members.values)
    values: list[np.ndarray] = []
    for statistic, rate in cells:
        if statistic == "tnr":
            values.append(resample_share_below(forget, retain, tnr_rank(float(rate), num_retain)))
        elif statistic == "tpr":
            values.append(resample_share_above(forget, non_members, tpr_rank(float(rate), num_non_members)))
        else:
            # Negated scores turn the r-th smallest into the r-th largest, and above into below.
            rank = num_non_members + 1 - tpr_rank(float(rate), num_non_members)
            values.append(resample_share_below(forget, non_members, rank))
    return np.stack(values)


def _resampled_accuracy(
    unlearned: Sequence[Evidence], name: str, tests: Mapping[str, int], num_resamples: int
) -> ResampledCell:
    """Resample the mean accuracy of a seed's unlearnings. Resampling right and wrong examples is a binomial draw.

    All unlearnings count as one, as if they were right on the same examples, which is conservative.
    """
    item = unlearned[0]
    sets = {one: getattr(item, one).tolist() for one in ("retain", "forget", "non_members")}
    numbered = {one: range(number) for one, number in {**tests, "unseen": len(item.log_odds_unseen)}.items()}
    examples: Sequence[int] = {**sets, **numbered}.get(name, ())
    num_examples = len(examples)
    if not num_examples:
        raise ValueError(
            f"with fewer than {SEEDS_FOR_T} seeds, the interval of accuracy on {name!r} needs its number of examples: "
            "pass num_test for the test set"
        )
    generator = np.random.default_rng(derive_seed("bootstrap accuracy", name, item.seed))
    share = float(np.mean([one.accuracy[name] for one in unlearned]))
    return ResampledCell(generator.binomial(num_examples, share, num_resamples) / num_examples, examples)


def _fnrs(attack: AttackConfig) -> tuple[float, ...]:
    return tuple(dict.fromkeys((attack.fnr, FURTHER_FNR)))


def _scores(item: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scores of the retain set, the forget set and the non-members, in float64."""
    scores = _to_float64(item.scores)
    return scores[item.retain], scores[item.forget], scores[item.non_members]


def _to_float64(scores: np.ndarray) -> Float64[np.ndarray, " pool"]:
    return np.asarray(scores, dtype=np.float64)


def _check(evidence: Sequence[Evidence]) -> None:
    if not evidence:
        raise ValueError("there is no evidence to score: no method has finished under any seed")
    first_of_seed: dict[int, Evidence] = {}
    seen: set[tuple[str, int, int]] = set()
    for item in evidence:
        name = f"{item.method} under seed {item.seed}" + (f", unlearning {item.unlearning}" if item.unlearning else "")
        if (item.method, item.seed, item.unlearning) in seen:
            raise ValueError(f"evidence of {name} appears twice")
        seen.add((item.method, item.seed, item.unlearning))
        if not np.isfinite(item.scores).all():
            raise ValueError(f"scores of {name} are not finite: the unlearned model has diverged")
        first = first_of_seed.setdefault(item.seed, item)
        for field in ("retain", "forget", "non_members"):
            if not np.array_equal(getattr(item, field), getattr(first, field)):
                raise ValueError(f"{name} and {first.method} differ in {field}: methods of one seed share their sets")
