"""Results of single examples: log-odds, scores, p values, and what the shadow models know of each example.

The records are personal data. They are written on request only, into the report's folder, where a purge removes them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from ungan_dist import store
from ungan_dist.attack.evidence import Evidence, Report
from ungan_dist.attack.moments import Moments, compute_in_and_out_moments
from ungan_dist.attack.records import measure_p_values
from ungan_dist.config.attack import MIN_SHADOWS, AttackConfig
from ungan_dist.errors import explain_file_errors
from ungan_dist.runs import progress
from ungan_dist.runs.plan import Plan
from ungan_dist.runs.reporting import build_report
from ungan_dist.runs.scoring import fit, read_shadows, refuse_quick
from ungan_dist.runs.units import is_done
from ungan_dist.runs.views import RECORDS_FILE

if TYPE_CHECKING:
    import pyarrow as pa

NUM_NAMED = 5
"""Examples that are named as most and as least forgotten."""


def write_records(
    plan: Plan, *, on_progress: progress.ProgressCallback = progress.silent
) -> tuple[Path, dict[str, tuple[list[int], ...]]]:
    """Write the results of single examples of every method and seed into ``records.parquet``.

    The file is readable by its owner alone, unless the output folder is shared with a group.

    Args:
        plan: The plan of the run or view.
        on_progress: Called with each progress event.

    Returns:
        The file, and for each method the least and the most forgotten examples, by their index in the data set.

    Raises:
        ConfigError: Nothing can ever be scored, or the run has no shadow models.
        Unfinished: Too little was committed.
        BlockingIOError: Another process is at work on the run.
    """
    import pyarrow.parquet

    refuse_quick(plan.record.config.attack)
    with explain_file_errors(plan.folder), store.run_lock(plan.folder):
        report = build_report(plan, [], on_progress)
        stream = io.BytesIO()
        pyarrow.parquet.write_table(build_records(plan, report), stream)
        path = plan.report_folder / RECORDS_FILE
        store.write_file(path, stream.getvalue())
    ends = (report.least_forgotten, report.most_forgotten)
    return path, {
        row.title: tuple([one.example for one in find(row.method, NUM_NAMED)] for find in ends) for row in report.rows
    }


def build_records(plan: Plan, report: Report) -> pa.Table:
    """Build one record per method, seed and example of the pool.

    Columns: ``method``, ``seed``, ``unlearning``, ``example`` (index in the data set), ``label``, ``set``,
    ``log_odds`` (mean over the queries), ``score`` (LiRA, higher = member), ``p``, ``p_low``, ``p_high``
    (membership p value, 95 % interval), ``in_models``, ``in_mean``, ``in_std``, ``out_models``, ``out_mean``,
    ``out_std`` (shadow models' log-odds), and ``leave_one_out``. That is the AUC with which this attack tells the
    shadow models that had the example from the others, each scored by the models outside of its complementary pair.
    It is empty if too few models are left.
    """
    import pyarrow as pa

    log_odds, membership = read_shadows(plan, [unit for unit in plan.shadows if is_done(unit)])
    moments = compute_in_and_out_moments(log_odds.mean(2, dtype=np.float64), membership)
    left_out = measure_leave_one_out(log_odds, membership, plan.record.config.attack)
    pool = plan.split.pool
    shared: dict[str, Any] = {"example": pool, "label": np.asarray(plan.source.labels)[pool]}
    for group, found in zip(("in", "out"), moments, strict=True):
        deviation = np.sqrt(found.squares / np.maximum(found.num_values - 1, 1))
        shared |= {f"{group}_models": found.num_values, f"{group}_mean": found.mean, f"{group}_std": deviation}
    shared["leave_one_out"] = pa.nulls(len(pool), pa.float64()) if left_out is None else left_out
    return pa.concat_tables([pa.table(_list_columns(item, shared, moments[1])) for item in report.evidence])


def _list_columns(item: Evidence, shared: dict[str, Any], out: Moments) -> dict[str, Any]:
    size = len(item.scores)
    names = np.full(size, "other non-member", dtype=object)  # of other classes, where whole classes are forgotten
    for name, positions in (("retain", item.retain), ("forget", item.forget), ("non-member", item.non_members)):
        names[positions] = name
    target = item.log_odds.mean(1, dtype=np.float64)
    p_values = measure_p_values(target, out, shared["example"])
    return {
        "method": [item.method] * size,
        "seed": np.full(size, item.seed),
        "unlearning": np.full(size, item.unlearning),
        "set": names,
        "log_odds": target,
        "score": item.scores,
        "p": p_values.p,
        "p_low": p_values.low,
        "p_high": p_values.high,
        **shared,
    }


def measure_leave_one_out(
    log_odds: Float[np.ndarray, "models examples queries"],
    membership: Bool[np.ndarray, "models examples"],
    attack: AttackConfig,
) -> Float[np.ndarray, " examples"] | None:
    """Measure how well the attack tells the shadow models that had an example from the others, as an AUC per example.

    Each model is scored by the models outside of its complementary pair, whose membership reveals its own. None if too
    few models are left.
    """
    if len(membership) - 2 < MIN_SHADOWS:
        return None
    scores = np.empty(membership.shape)
    for pair in _list_pairs(membership):
        fits = fit(log_odds, membership, attack, leave_out=pair)
        for model in pair:
            scores[model] = fits.score(log_odds[model])
    wins = np.zeros(membership.shape[1])
    for model in range(len(scores)):
        beaten = (scores[model] > scores) + 0.5 * (scores[model] == scores)
        wins += membership[model] * (beaten * ~membership).sum(0)
    return wins / (membership.sum(0) * (~membership).sum(0))


def _list_pairs(membership: Bool[np.ndarray, "models examples"]) -> Iterator[list[int]]:
    """List the models with their complementary partners; one whose partner is absent stands alone."""
    waiting: dict[bytes, int] = {}
    for model, row in enumerate(membership):
        partner = waiting.pop((~row).tobytes(), None)
        if partner is None:
            waiting[row.tobytes()] = model
        else:
            yield [partner, model]
    for model in waiting.values():
        yield [model]
