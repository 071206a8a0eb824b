"""Compare two results of the benchmark: ``ungan-dist bench compare OLD NEW``.

Counts that grow, or that are no longer taken, are regressions. Times are shown with an interval, and change no exit
code: each is our time relative to a rival of the same process, so that a slower machine alone changes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import bootstrap_medians, interval_of

Results = Mapping[str, Mapping[tuple[str, str], Mapping[str, Any]]]
"""Suite → (subject, rival) → row."""


def read_results(path: Path) -> Results:
    """Read a results file, or all those of a folder that a suite has written.

    Raises:
        SystemExit: There is none.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    found: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {}
    for file in files:
        try:
            results = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise SystemExit(f"{file} is no results file: {error}") from error
        if isinstance(results, dict) and "suite" in results:
            found[results["suite"]] = _index_rows(file, results)
    if not found:
        raise SystemExit(f"{path} has no results of ungan-dist bench")
    return found


def _index_rows(file: Path, results: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return a file's rows by subject and rival.

    Raises:
        SystemExit: A row stands twice, or a count is no finite number.
    """
    rows = results.get("rows") or []
    found = {(row["subject"], row.get("rival", "")): row for row in rows}
    if len(found) < len(rows):
        raise SystemExit(f"{file} has two rows of one subject and rival: measure it again")
    for (subject, _), row in found.items():
        for name, count in row.get("counts", {}).items():
            if not isinstance(count, int | float) or not math.isfinite(count):
                raise SystemExit(f"{file}: {subject}, {name} is {count!r}, no count: measure it again")
    return found


def compare_counts(old: Results, new: Results) -> tuple[list[str], list[str]]:
    """Compare the counts of the suites that both have.

    Returns:
        Regressions and improvements, as lines.
    """
    worse: list[str] = []
    better: list[str] = []
    for suite in [name for name in old if name in new]:
        for key, row in old[suite].items():
            after = new[suite].get(key, {}).get("counts", {})
            for name, count in row.get("counts", {}).items():
                words = f"{suite}, {key[0]}, {name}: {count:,}"
                if name not in after:
                    worse.append(f"{words} → not counted")
                elif after[name] != count:
                    (worse if after[name] > count else better).append(f"{words} → {after[name]:,}")
    return worse, better


def compare_times(old: Results, new: Results) -> list[str]:
    """Compare the speeds relative to a rival that both have."""
    lines: list[str] = []
    for suite in [name for name in old if name in new]:
        for (subject, rival), row in old[suite].items():
            before, after = (np.array(one.get("ratios", ())) for one in (row, new[suite].get((subject, rival), {})))
            if len(before) and len(after):
                low, high = interval_of(bootstrap_medians(after, 1) / bootstrap_medians(before))
                change = np.median(after) / np.median(before)
                word = "slower" if high < 1 else "faster" if low > 1 else "no change shown"
                lines.append(f"{suite}, {subject}, against {rival}: {change:.2f} [{low:.2f}, {high:.2f}] {word}")
    return lines


def main(arguments: Sequence[str]) -> int:
    """Print a comparison, and return 1 if a count has grown."""
    parser = argparse.ArgumentParser(prog="ungan-dist bench compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    asked = parser.parse_args(arguments)
    old, new = read_results(asked.old), read_results(asked.new)
    if not set(old) & set(new):
        raise SystemExit(f"no suite is in both: {', '.join(old)}; {', '.join(new)}")
    for name in sorted(set(old) - set(new)):
        print(f"not compared: {name}, which {asked.new} does not have")
    worse, better = compare_counts(old, new)
    for title, lines in (("times, relative", compare_times(old, new)), ("fewer", better), ("MORE", worse)):
        for line in lines:
            print(f"{title}: {line}")
    if not worse:
        print("no count has grown")
    return 1 if worse else 0
