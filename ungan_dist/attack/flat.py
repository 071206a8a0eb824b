"""Rows of the table as flat records of plain values, for CSV, Parquet and pandas."""

from __future__ import annotations

from collections.abc import Mapping

from ungan_dist.attack.evidence import Interval, Report, Row, ULiRA
from ungan_dist.attack.summary import average_seconds

Value = str | float | int | None


def flatten_rows(report: Report) -> list[dict[str, Value]]:
    """Flatten the rows, one record per method. All records have the same keys.

    An interval becomes its mean under its name, and ``NAME_low`` and ``NAME_high``. Shares are in [0, 1]. What could
    not be computed is None. ``seconds`` is T_U, mean over the seeds.
    """
    seconds = average_seconds(report)
    records = [_flatten(row, seconds.get(row.method)) for row in report.rows]
    records += [
        {"method": row.method, "title": row.title, "verdict": row.outcome, "caveat": row.reason}
        for row in report.failed_rows
    ]
    names = list(dict.fromkeys(name for record in records for name in record))
    return [{name: record.get(name) for name in names} for record in records]


def _flatten(row: Row, seconds: float | None) -> dict[str, Value]:
    return {
        "method": row.method,
        "title": row.title,
        "verdict": row.verdict.outcome,
        "utility": row.utility,
        "caveat": f"{row.hidden_leak} {row.caveat}".strip(),
        "seeds": len(row.auc.per_seed),
        **spread("gap", row.verdict.gap),
        "smallest_delta": row.verdict.smallest_delta,
        **({"decided_by": row.verdict.attack} if row.attacks and row.verdict.gap is not None else {}),
        **spread("auc", row.auc),
        **_spread_attacks(row),
        **_spread_all("accuracy", row.accuracy),
        **_spread_all("loss", row.loss),
        **_spread_all("tnr_at_fnr", row.tnr_at_fnr),
        **_spread_all("tpr_at_fpr", row.tpr_at_fpr),
        **_spread_all("flipped_tpr_at_fpr", row.tpr_at_fpr_flipped),
        **{
            f"share_of_p_below_{level}{whose}": sum(found) / len(found)
            for whose, shares in (("", row.low_p_values), ("_of_non_members", row.low_p_values_of_non_members))
            for level, found in shares.items()
            if found
        },
        **{
            f"{name}_sd_{stage}": None if found is None else found.value
            for name, split in row.stages.items()
            for stage, found in (("originals", split.originals), ("unlearnings", split.unlearnings))
        },
        **{name: sum(found) / len(found) for name, found in row.distances.items()},
        **_flatten_relearning(row),
        **_flatten_klom(row),
        **({} if row.ulira is None else spread("ulira_auc", row.ulira.auc if isinstance(row.ulira, ULiRA) else None)),
        "seconds": seconds,
    }


def _flatten_relearning(row: Row) -> dict[str, Value]:
    found = row.relearning
    if found is None:
        return {}
    bounds = (None, None, None) if found.gap is None else (found.gap.mean, found.gap.low, found.gap.high)
    names = ("relearning_gap", "relearning_gap_low", "relearning_gap_high")
    return {"relearning_area": sum(found.area) / len(found.area), **dict(zip(names, bounds, strict=True))}


def _flatten_klom(row: Row) -> dict[str, Value]:
    if row.klom is None:
        return {}
    if isinstance(row.klom, str):
        return {"klom_mean": None, "klom_percentile_95": None}
    seeds = len(row.klom.mean)
    return {
        "klom_mean": sum(row.klom.mean) / seeds,
        "klom_percentile_95": sum(row.klom.percentile_95) / seeds,
    }


def _spread_all(name: str, cells: Mapping[str, Interval | str]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, cell in cells.items():
        found |= spread(f"{name}_{key}", cell)
    return found


def _spread_attacks(row: Row) -> dict[str, Value]:
    """Spread the attacks beside the first, whose results are ``auc`` and ``gap``."""
    found: dict[str, Value] = {}
    for name, result in row.attacks.items():
        if name != row.first_attack:
            found |= spread(f"auc_{name}", result.auc) | spread(f"gap_{name}", result.gap)
    return found


def spread(name: str, cell: Interval | str | None) -> dict[str, Value]:
    """Spread an interval over three columns: its mean under its name, ``NAME_low`` and ``NAME_high``."""
    mean, low, high = (None,) * 3 if isinstance(cell, str | None) else (cell.mean, cell.low, cell.high)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
