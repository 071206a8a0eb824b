"""The table of benchmarks/sequential.py's results."""

from __future__ import annotations

from typing import Any

NAMES = {
    "once": "one look at all seeds",
    "looks": "`--until decided`",
    "equal": "looks with equal shares",
    "uncorrected": "looks without correction",
}


def table(results: dict[str, Any]) -> str:
    """Write what was simulated, and one line per case and rule, with shares in per cent."""
    lines = [
        _caption(results),
        "| true gap | rule | false equivalence | false trace | equivalent | trace | undecided | seeds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one in results["results"]:
        shares = [one[name] for name in ("false_equivalence", "false_trace", "equivalent", "trace", "undecided")]
        cells = [one["case"]["name"], NAMES[one["rule"]], *(f"{100 * share:.1f} %" for share in shares)]
        lines.append(f"| {' | '.join([*cells, format(one['seeds'], '.1f')])} |")
    return "\n".join(lines) + "\n"


def _caption(results: dict[str, Any]) -> str:
    """Describe the simulated audits."""
    design = results["design"]
    seeds = ", ".join(map(str, design["seeds"]))
    worst = max(
        one[name]
        for one in results["results"]
        for name in ("false_equivalence", "false_trace")
        if one["rule"] == "looks"
    )
    return (
        f"{results['num_audits']:,} simulated audits a line, with {len(design['attacks'])} attacks, δ = "
        f"{design['delta']:g} and gaps that vary by {design['spread']:g} between seeds. The looks have {seeds} seeds; "
        f"the last two have twice and four times the shadow models. The highest error rate of `--until decided` is "
        f"{100 * worst:.1f} %.\n"
    )
