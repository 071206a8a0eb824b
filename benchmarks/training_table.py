"""Format the tables of training: counts of steps, CPU time of shadow models, and seconds of audits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ratio_text import format_ratio


def count_table(results: Mapping[str, Any]) -> str:
    """Format ``results/step_counts.json``."""
    lines = [
        f"Counted on a pretend GPU (`benchmarks/step_counts.py`), before at commit `{results['earlier'][:12]}`, now at "
        f"`{results['measured_on']['commit'][:12]}`. Views are not counted.",
        "",
        "| step | operations before | operations | waits before | waits |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in results["rows"]:
        numbers = (row[name] for name in ("operations_before", "operations", "waits_before", "waits"))
        lines.append(f"| {row['subject']} | {' | '.join(f'{number:g}' for number in numbers)} |")
    return "\n".join(lines) + "\n"


def time_table(results: Mapping[str, Any]) -> str:
    """Format ``results/training.json``."""
    load = ", ".join(f"{value:.1f}" for value in results["load"])
    turns, cpu = results["rows"][0]["num_pairs"], results["hardware"]["cpu"]
    lines = [
        f"Processes with one thread take turns, {turns} times ({cpu}). "
        f"The machine is shared: its load average before and after is {load}. Medians of paired ratios with 95 % "
        f"intervals, in CPU seconds. Before: commit `{results['earlier'][:12]}`; now: "
        f"`{results['measured_on']['commit'][:12]}`.",
        "",
        "| | images a CPU second | times as fast | test accuracy | log-odds of members | of non-members | models |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in results["rows"]:
        is_rival = row["subject"].endswith(", before")
        cells = [
            row["subject"],
            f"{row['images_per_cpu_s']:,.0f}",
            "" if is_rival else format_ratio(row),
            *(f"{row[name]:.3f}" if name in row else "–" for name in ("accuracy", "members", "non_members")),
            str(row["num_models"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def audit_table(results: Mapping[str, Any]) -> str:
    """Format ``results/audit_time.json``."""
    pairs = _complete_turns(results["rows"])
    if not pairs:
        return "Not measured yet.\n"
    runs = {arm: [pair[arm] for pair in pairs] for arm in ("before", "after")}
    ratios = [pair["after"]["seconds"] / pair["before"]["seconds"] for pair in pairs]
    loads = [value for pair in pairs for row in pair.values() for value in row["load"]]
    hardware, options = results["hardware"], " ".join(results["options"])
    times = "once" if len(pairs) == 1 else f"{len(pairs)} times"
    lines = [
        f"`ungan-dist run digits{' ' if options else ''}{options}`, {times} with each version, in turns, on "
        f"{hardware['cores']} cores ({hardware['cpu']}). Seconds are medians. The load average around an audit was "
        f"{min(loads):.1f} to {max(loads):.1f}. The later version takes {statistics.median(ratios):.0%} of the time"
        + (f" (median of pairs; from {min(ratios):.0%} to {max(ratios):.0%})." if len(pairs) > 1 else "."),
        "",
        "| version | seconds | CPU seconds | methods | test accuracy of the original | of Retrain |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for arm, rows in runs.items():
        cells = [
            f"{arm}, `{results['commits'][arm]}`",
            *(f"{statistics.median(row[name] for row in rows):.1f}" for name in ("seconds", "cpu_s")),
            str(rows[0]["methods"]),
            *(f"{rows[0]['accuracy'][name]:.3f}" for name in ("original", "retrain")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _complete_turns(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Mapping[str, Any]]]:
    turns: dict[int, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        turns.setdefault(row["turn"], {})[row["arm"]] = row
    return [turn for turn in turns.values() if len(turn) == 2]


def accuracy_table(results: Mapping[str, Any]) -> str:
    """Format ``results/training_accuracy.json``."""
    lines = [
        f"{results['models']} shadow models of the recipe `{results['recipe']}`, each of {results['examples']:,} "
        f"images and {results['epochs']} epochs, trained alike in every arm. Before: commit "
        f"`{results['earlier'][:12]}`; now: `{results['measured_on']['commit'][:12]}`. Differences are each example's "
        "log-odds less those of `fp32, now`, as mean ± standard deviation.",
        "",
        "| | train accuracy | test accuracy | log-odds of members | difference | of non-members | difference |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in results["rows"]:
        cells = [row["subject"], *(f"{row[name]:.3f}" for name in ("train_accuracy", "test_accuracy"))]
        for kind in ("members", "non_members"):
            mean, spread = row[f"{kind}_difference"], row[f"{kind}_spread"]
            cells += [f"{row[kind]:.3f}", f"{mean:+.3f} ± {spread:.3f}" if spread else "–"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
