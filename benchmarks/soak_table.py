"""The tables of benchmarks/soak.py's results."""

from __future__ import annotations

from collections import Counter
from typing import Any

NAMES = {"rss_mb": "memory, MB", "fds": "file descriptors", "threads": "threads"}


def table(results: dict[str, Any]) -> str:
    """Write what was run, the faults, what was wrong, and the growth of the processes."""
    rows = results["rows"]
    rounds = [row for row in rows if row["kind"] == "round"]
    checked = {row["round"] for row in rounds}
    faults = Counter(row["fault"] for row in rows if row["kind"] == "fault" and row["round"] in checked)
    runs = sum(row["runs_of_the_command"] for row in rounds)
    codes = Counter(code for row in rounds for code in row["exit_codes"])
    ended = ", ".join(f"{_name_code(code)} {count} times" for code, count in sorted(codes.items()))
    texts = [text for row in rounds for text in row["wrong"]]
    wrong_codes = [text for text in texts if text.startswith("the command ended with ")]
    wrong = [text for text in texts if text not in wrong_codes]
    cores = results["hardware"]["cores"]
    again, uncounted, refused = (sum(r[name] for r in rounds) for name in ("written_again", "uncounted", "refused"))
    failed = [note for row in rounds if row["whole"] for note in row["failed"]]
    lines = [
        f"{results['seconds'] / 60:.0f} minutes, seed {results['seed']}, {results['hosts']} workers' hosts, {cores} "
        f"cores, load {_describe_loads(rows)}; commit `{results['measured_on']['commit'][:12]}`. "
        f"{sum(faults.values())} faults hit {len(rounds)} {'audit' if len(rounds) == 1 else 'audits'} of "
        f"{results['num_units']:,} units of shadow models, {sum(row['whole'] for row in rounds)} of them complete.",
        "",
        "| fault | times |",
        "|---|---:|",
        *(f"| {fault} | {count} |" for fault, count in sorted(faults.items())),
        "",
        "| | found |",
        "|---|---|",
        f"| units with a result | {sum(row['units'] for row in rounds):,} |",
        f"| results that a late worker wrote again, with the same bits | {again} |",
        f"| results whose commit the command did not live to count, and found later | {uncounted} |",
        f"| units that a complete audit gave up | {len(failed)} |",
        f"| runs of the command | {runs}: {ended} |",
        f"| of them, runs that found no cluster or no worker, because hosts were starting again | {refused} |",
        f"| units lost, counted twice or with other bits | {'; '.join(wrong) or 'none'} |",
        f"| wrong exit codes | {'; '.join(wrong_codes) or 'none'} |",
        "",
        "| process | value | median | most | growth an hour, 95 % interval | lives | hours | |",
        "|---|---|---:|---:|---:|---:|---:|---|",
        *map(_growth_line, results["growth"]),
    ]
    return "\n".join(lines) + "\n"


def _describe_loads(rows: list[dict[str, Any]]) -> str:
    """Write the range of the load averages before the faults."""
    loads = [row["load"] for row in rows if "load" in row]
    return f"{min(loads)} to {max(loads)}" if loads else "not recorded"


def _name_code(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _growth_line(one: dict[str, Any]) -> str:
    """Write a line of the growth of one kind of process."""
    interval = "not measured"
    if one["interval"]:
        low, high = one["interval"]
        interval = f"{one['per_hour']:.2f} [{low:.2f}, {high:.2f}]"
    cells = [one["process"], NAMES[one["value"]], f"{one['median']:.0f}", f"{one['most']:.0f}", interval]
    cells += [str(one["lives"]), f"{one['hours']:.1f}", f"{one['verdict']} (limit {one['limit_per_hour']:g})"]
    return f"| {' | '.join(cells)} |"
