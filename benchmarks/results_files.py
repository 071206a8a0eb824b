"""Read results files of ``ungan-dist bench``, and refuse those that cannot be compared."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Key = tuple[str, str]
"""Subject and rival of a row."""
MAX_RATIO = 1e12


class ResultsError(ValueError):
    """A results file is missing or malformed."""


@dataclass(frozen=True, kw_only=True)
class SuiteResults:
    """What a suite has measured."""

    rows: Mapping[Key, Row]
    is_quick: bool
    is_marked: bool
    problems: list[str]


def read_results(path: Path) -> dict[str, SuiteResults]:
    """Read a results file, or all those of a folder that a suite has written.

    Returns:
        Suite → results.

    Raises:
        ResultsError: There is none, or one is malformed.
    """
    found: dict[str, SuiteResults] = {}
    for file in sorted(path.glob("*.json")) if os.path.isdir(path) else [path]:
        try:
            results = json.loads(file.read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise ResultsError(f"{file} is no results file: {' '.join(str(error).split())}") from error
        if not isinstance(results, dict) or "suite" not in results:
            continue
        suite = results["suite"]
        if not isinstance(suite, str):
            raise ResultsError(f"{file} has the suite {suite!r}, which is no name: measure it again")
        if suite in found:
            raise ResultsError(f"{path} has two files of the suite {suite}: remove one")
        found[suite] = _read_suite(file, results)
    if not found:
        raise ResultsError(f"{path} has no results of ungan-dist bench")
    return found


def _read_suite(file: Path, results: Mapping[str, Any]) -> SuiteResults:
    rows, problems = results.get("rows") or [], results.get("problems") or []
    if not isinstance(rows, list) or not isinstance(problems, list):
        raise ResultsError(f"{file} has no list of rows or of problems: measure it again")
    indexed: dict[Key, Row] = {}
    for row in rows:
        reason = _find_fault(row)
        if reason:
            raise ResultsError(f"{file}: {reason}: measure it again")
        key = (row["subject"], row.get("rival", ""))
        if key in indexed:
            raise ResultsError(f"{file} has two rows of one subject and rival: measure it again")
        indexed[key] = row
    return SuiteResults(
        rows=indexed,
        is_quick=bool(results.get("quick")),
        is_marked=bool(results.get("is_marked")),
        problems=[str(problem) for problem in problems],
    )


def _find_fault(row: object) -> str:
    """Return why a row cannot be compared, or an empty text."""
    if not isinstance(row, dict):
        return f"{row!r:.80} is no row"
    subject, counts, ratios = row.get("subject"), row.get("counts", {}), row.get("ratios", [])
    if not isinstance(subject, str) or not isinstance(row.get("rival", ""), str):
        return f"the row {row!r:.80} has no subject, or a rival without a name"
    if not isinstance(counts, dict):
        return f"{subject} has {counts!r:.80} in place of counts"
    for name, count in counts.items():
        if not _is_number(count) or (isinstance(count, float) and not math.isfinite(count)):
            return f"{subject}, {name} is {count!r:.80}, no count"
    if not isinstance(ratios, list) or not all(_is_number(ratio) and 0 < ratio < MAX_RATIO for ratio in ratios):
        return f"{subject} has {ratios!r:.80} in place of ratios"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
