"""Compare two results of the benchmark: ``ungan-dist bench compare OLD NEW``.

Suites are compared that both have; the others are named. Within them, these are regressions: a count that grows or is
no longer taken, a result that has become wrong, and a suite that has not ended. Times are shown with an interval and
are no regressions: each is our time relative to a rival of the same process, so that a slower machine alone changes
nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from harness import bootstrap_medians, interval_of
from ratio_text import LEAST_FOR_INTERVAL
from results_files import ResultsError, SuiteResults, read_results

Results = Mapping[str, SuiteResults]
"""Suite → results."""


def compare_counts(old: Results, new: Results) -> tuple[list[str], list[str]]:
    """Compare the counts of suites.

    Returns:
        Regressions and improvements, as lines.
    """
    worse: list[str] = []
    better: list[str] = []
    for suite, before in old.items():
        for key, row in before.rows.items():
            after = new[suite].rows.get(key, {}).get("counts", {})
            for name, count in row.get("counts", {}).items():
                words = f"{suite}, {key[0]}, {name}: {count:,}"
                if name not in after:
                    worse.append(f"{words} → not counted")
                elif after[name] != count:
                    (worse if after[name] > count else better).append(f"{words} → {after[name]:,}")
    return worse, better


def list_failures(old: Results, new: Results) -> list[str]:
    """List results that are wrong now, and suites that have not ended, unless it was so before."""
    lines: list[str] = []
    for suite, after in new.items():
        refused = {key: str(row["refused"]) for key, row in after.rows.items() if "refused" in row}
        lines += [
            f"{suite}, {subject}, against {rival}: {reason}"
            for (subject, rival), reason in refused.items()
            if "refused" not in old[suite].rows.get((subject, rival), {})
        ]
        known = {*old[suite].problems, *(f"{subject}: {reason}" for (subject, _), reason in refused.items())}
        lines += [f"{suite}: {problem}" for problem in after.problems if problem not in known]
    return lines


def compare_times(old: Results, new: Results) -> list[str]:
    """Compare the speeds relative to a rival that both have."""
    lines: list[str] = []
    for suite, measured in old.items():
        for (subject, rival), row in measured.rows.items():
            other = new[suite].rows.get((subject, rival), {})
            before, after = (np.array(one.get("ratios", ()), dtype=float) for one in (row, other))
            if len(before) and len(after):
                lines.append(f"{suite}, {subject}, against {rival}: {_describe_change(before, after)}")
            elif len(before) and "refused" not in other:
                lines.append(f"{suite}, {subject}, against {rival}: not timed any more")
    return lines


def _describe_change(before: np.ndarray, after: np.ndarray) -> str:
    """Describe how a speed has changed, with an interval if both have enough pairs for one."""
    change = np.median(after) / np.median(before)
    if min(len(before), len(after)) < LEAST_FOR_INTERVAL:
        return f"{change:.2f}, of {len(before)} and {len(after)} pairs: too few to show a change"
    low, high = interval_of(bootstrap_medians(after, 1) / bootstrap_medians(before))
    word = "slower" if high < 1 else "faster" if low > 1 else "no change shown"
    return f"{change:.2f} [{low:.2f}, {high:.2f}] {word}"


def select_comparable(old: Results, new: Results, names: tuple[Path, Path]) -> tuple[Results, Results]:
    """Return the suites that can be compared, and print what is left out or doubtful.

    Raises:
        ResultsError: There is none.
    """
    left_out = dict.fromkeys(sorted(set(old) - set(new)), f"{names[1]} does not have it")
    left_out |= dict.fromkeys(sorted(set(new) - set(old)), f"{names[0]} does not have it")
    for name, results in zip(names, (old, new), strict=True):
        left_out |= {suite: f"{name} measured it at tiny sizes" for suite, one in results.items() if one.is_quick}
    for suite, reason in left_out.items():
        print(f"not compared: {suite}, because {reason}")
    both = [suite for suite in old if suite not in left_out]
    if not both:
        raise ResultsError(f"{names[0]} and {names[1]} have no suite that can be compared")
    for name, results in zip(names, (old, new), strict=True):
        for suite in both:
            if results[suite].is_marked:
                print(f"doubtful: {name} measured {suite} beside other work")
    return {suite: old[suite] for suite in both}, {suite: new[suite] for suite in both}


def main(arguments: Sequence[str]) -> int:
    """Print a comparison.

    Returns:
        1 for a regression, 2 for results that cannot be compared, otherwise 0.
    """
    parser = argparse.ArgumentParser(prog="ungan-dist bench compare", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    asked = parser.parse_args(arguments)
    try:
        old, new = select_comparable(read_results(asked.old), read_results(asked.new), (asked.old, asked.new))
    except ResultsError as error:
        print(f"ungan-dist bench compare: {error}", file=sys.stderr)
        return 2
    more, fewer = compare_counts(old, new)
    failures = list_failures(old, new)
    parts = (("times, relative", compare_times(old, new)), ("fewer", fewer), ("MORE", more), ("FAILED", failures))
    for title, lines in parts:
        for line in lines:
            print(f"{title}: {line}")
    if not more:
        print("no count has grown")
    return 1 if more or failures else 0
