"""table.json: every number of the table, byte for byte the same for the same run (schema: table.schema.json).

It leaves out times, versions and paths, because they may differ between machines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isfinite
from typing import Any

from ungan_dist.attack.evidence import FailedRow, Report, Row
from ungan_dist.attack.summary import count_verdicts
from ungan_dist.report.conclusions import list_caveats, list_not_tested, list_seeds
from ungan_dist.report.power import get_delta, get_utility_margin, measure_power

SCHEMA_VERSION = 5
"""Version 1 had no power, no utility of its own and no caveats; its verdicts were of the interval alone. Version 2 had
LiRA alone. Version 3 computed the power for LiRA alone. It had no quick audits, no test of normality and no
sensitivity to the number of shadow models. Version 4 had no shares of low p values of non-members."""
EARLIER_VERSIONS = (1, 2, 3, 4)
DECIMALS = 6


def build_table(report: Report) -> dict[str, Any]:
    """Build the table as plain data. A cell that cannot be computed is a sentence with the reason.

    What failed has a key of its own, and a method that failed under every seed a short row. Without failures, both are
    left out.
    """
    failures = [
        {key: value for key, value in asdict(failure).items() if key != "traceback"} for failure in report.failures
    ]
    power = measure_power(report)
    return {
        "schema": "ungan_dist/table",
        "schema_version": SCHEMA_VERSION,
        "title": report.title,
        "recipe": report.recipe,
        "run_hash": report.run_hash,
        "status": report.status,
        "missing": report.missing,
        "seeds": list_seeds(report),
        "sizes": report.sizes,
        "delta": get_delta(report),
        "utility_margin": get_utility_margin(report),
        "power": None if power is None else asdict(power),
        "verdicts": count_verdicts(report),
        "caveats": list_caveats(report),
        "shadow_quality": report.shadow_quality,
        "normality": None if report.normality is None else asdict(report.normality),
        "sensitivity": report.sensitivity,
        "rows": [*map(_build_row, report.rows), *map(_build_failed_row, report.failed_rows)],
        "not_tested": list_not_tested(report),
        **({"earlier_requests": [asdict(one) for one in report.earlier]} if report.earlier else {}),
        **({"failures": failures} if failures else {}),
        **({"stopping": asdict(report.stopping)} if report.stopping else {}),
    }


def _build_row(row: Row) -> dict[str, Any]:
    without = {
        "ulira": row.ulira is None,
        "stages": not row.stages,
        "distances": not row.distances,
        "relearning": row.relearning is None,
        "class_caveat": not row.class_caveat,
        "klom": True,  # tables of finished runs with retrained shadow models stay as they are
    }
    return {name: value for name, value in asdict(row).items() if not without.get(name)}


def _build_failed_row(row: FailedRow) -> dict[str, Any]:
    verdict = {"outcome": row.outcome, "gap": None, "smallest_delta": None}
    return {"method": row.method, "title": row.title, "verdict": verdict, "reason": row.reason}


def has_same_measurements(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Return whether a table of an earlier version was made from the same measurements as today's.

    Intervals and verdicts follow the rules of the version that wrote them. Compared are the sizes, and under each seed
    the accuracies, the AUC and the TNR.
    """

    def measure(table: Mapping[str, Any]) -> Any:
        return [table[name] for name in ("run_hash", "status", "missing", "seeds", "sizes", "delta")] + [
            (row["method"], _per_seed(row["accuracy"]), _per_seed(row["tnr_at_fnr"]), row["auc"]["per_seed"])
            if "auc" in row
            else (row["method"], row["reason"])
            for row in table["rows"]
        ]

    try:
        return measure(stored) == measure(expected)
    except (KeyError, TypeError, AttributeError):
        return False


def _per_seed(cells: Mapping[str, Any]) -> dict[str, Any]:
    return {name: cell["per_seed"] if isinstance(cell, Mapping) else cell for name, cell in cells.items()}


def to_json(content: Mapping[str, Any]) -> bytes:
    """Encode as UTF-8 JSON with sorted keys and floats of fixed precision. Numbers that are not finite become null."""
    text = json.dumps(_fixed(content), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def _fixed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _fixed(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_fixed(inner) for inner in value]
    if isinstance(value, float):
        # + 0.0: a negative zero prints a sign
        return round(float(value), DECIMALS) + 0.0 if isfinite(value) else None
    return value
