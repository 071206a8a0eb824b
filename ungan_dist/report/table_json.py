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
from ungan_dist.report.conclusions import NOT_TESTED, get_delta, list_seeds

SCHEMA_VERSION = 1
DECIMALS = 6


def build_table(report: Report) -> dict[str, Any]:
    """Build the table as plain data. A cell that cannot be computed is a sentence with the reason.

    What failed has a key of its own, and a method that failed under every seed a short row. Without failures, both are
    left out, so that the bytes are those of before there were any.
    """
    failures = [
        {key: value for key, value in asdict(failure).items() if key != "traceback"} for failure in report.failures
    ]
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
        "shadow_quality": report.shadow_quality,
        "rows": [*map(_build_row, report.rows), *map(_build_failed_row, report.failed_rows)],
        "not_tested": list(NOT_TESTED),
        **({"failures": failures} if failures else {}),
    }


def _build_row(row: Row) -> dict[str, Any]:
    """Build a row. It has a caveat only beside a verdict that concludes something, so that earlier tables stay."""
    content = asdict(row)
    if not row.utility or row.verdict.outcome in ("inconclusive", "reference"):
        del content["utility"], content["caveat"]
    return content


def _build_failed_row(row: FailedRow) -> dict[str, Any]:
    verdict = {"outcome": row.outcome, "gap": None, "smallest_delta": None}
    return {"method": row.method, "title": row.title, "verdict": verdict, "reason": row.reason}


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
