"""Publishes a run: ``python benchmarks/publish.py runs/digits-… [NAME]``.

Writes ``benchmarks/results/NAME.json`` (table, timings, versions, hardware, commit) and ``NAME.md``, and refreshes the
blocks of README.md that stand between ``<!-- results: NAME -->`` and ``<!-- end -->``. Figures are never typed.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kernel_table
import loader_table

from ungan_dist import store
from ungan_dist.attack.intervals import seeded_interval
from ungan_dist.runs.record import read_run, versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"


def hardware() -> dict[str, object]:
    """What a run's seconds depend on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    facts: dict[str, object] = {"cpu": model[1] if model else platform.processor(), "cores": os.cpu_count()}
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        facts["gpus"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    except (OSError, subprocess.CalledProcessError):
        facts["gpus"] = []
    return facts


def commit() -> str:
    """The commit that is checked out, with a mark where the tree differs from it."""
    described = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()


def publish(run: Path, name: str) -> None:
    """Writes a run's results file and table."""
    if not (run / "table.json").is_file():
        raise SystemExit(f"{run} has no table.json: run `ungan-dist report {run}` first")
    results = {
        "table": store.read_json(run / "table.json"),
        "timings": store.read_json(run / "timings.json"),
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
    }
    store.write_json(RESULTS / f"{name}.json", results)
    store.write_file(RESULTS / f"{name}.md", (run / "table.md").read_bytes())


def compact(results: dict[str, Any]) -> str:
    """The README's table: the main columns of a results file."""
    table, seconds = results["table"], results["timings"]["methods"]
    sizes = table["sizes"]
    lines = [
        f"**{table['title']}**, recipe `{table['recipe']}`: {sizes['shadows']} shadow models, "
        f"{sizes['seeds']} seed(s), {sizes['forget']:,} examples to forget; "
        f"{results['hardware']['cores']} cores, commit `{results['commit']}`.",
        "",
        "| | retain % | forget % | test % | (a) TNR % @ 1 % FNR | (b) AUC, 95 % | verdict from (b), 90 % gap "
        "| smallest δ | T_U s |",
        "|---|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for row in table["rows"]:
        accuracy = [f"{100 * row['accuracy'][name]['mean']:.1f}" for name in ("retain", "forget", "test")]
        tnr = row["tnr_at_fnr"]["0.01"]
        auc, verdict = row["auc"], row["verdict"]
        gap = verdict["gap"]
        said = verdict["outcome"] + (f" [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else "")
        cells = [
            row["title"],
            *accuracy,
            f"{100 * tnr['mean']:.1f}" if isinstance(tnr, dict) else tnr,
            f"{auc['mean']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]",
            said,
            f"{verdict['smallest_delta']:.3f}" if gap else "",
            f"{seconds[row['method']]['mean']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", power(table), *controls(table), ""])


def power(table: dict[str, Any]) -> str:
    """What the run could have told: the margins it could have passed."""
    smallest = [row["verdict"]["smallest_delta"] for row in table["rows"] if row["verdict"]["gap"]]
    return (
        f"Power: the margin asked is δ = {table['delta']:g}; the rows' intervals could pass a δ between "
        f"{min(smallest):.3f} and {max(smallest):.3f}. Where a row's smallest δ is larger than {table['delta']:g}, "
        f"*equivalent* was out of reach for it."
    )


def controls(table: dict[str, Any]) -> list[str]:
    """What the two controls say about the critic's part: paired differences of AUC (b) over the seeds."""
    gaps = {row["method"]: row["verdict"]["gap"] for row in table["rows"]}
    wanted = ("ungan", "ungan_no_adversary", "ungan_random_critic")
    if any(not gaps.get(name) for name in wanted) or len(gaps["ungan"]["per_seed"]) < 3:
        return []
    phrases: list[str] = []
    apart: list[str] = []
    for name, words in (
        ("ungan_no_adversary", "without adversary"),
        ("ungan_random_critic", "with a critic that is never trained"),
    ):
        differences = [
            ours - theirs for ours, theirs in zip(gaps["ungan"]["per_seed"], gaps[name]["per_seed"], strict=True)
        ]
        interval = seeded_interval(differences, 0.90)
        phrases.append(f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] against UnGAN {words}")
        if interval.low > 0 or interval.high < 0:
            apart.append(words)
    said = (
        f"it differs from UnGAN {' and from UnGAN '.join(apart)}"
        if apart
        else "neither control is told apart from it, so this run gives no evidence that training the critic matters"
    )
    num_seeds = len(gaps["ungan"]["per_seed"])
    return [
        "",
        f"The critic's part: UnGAN's AUC (b) minus its controls', paired over {num_seeds} seeds with 90 % intervals, "
        f"is {' and '.join(phrases)}: {said}.",
    ]


TABLES = {"kernels": kernel_table.table, "loaders": loader_table.table}
"""What is no run has a table of its own."""


def refresh_readme() -> None:
    """Puts each published table into its block of the README."""
    path = ROOT / "README.md"
    text = path.read_text()

    def block(match: re.Match[str]) -> str:
        results = RESULTS / f"{match[1]}.json"
        write = TABLES.get(match[1], compact)
        body = write(store.read_json(results)) if results.is_file() else "Not measured yet.\n"
        return f"<!-- results: {match[1]} -->\n{body}<!-- end -->"

    store.write_file(path, re.sub(r"<!-- results: (\S+) -->\n.*?<!-- end -->", block, text, flags=re.S).encode())


if __name__ == "__main__":
    if len(sys.argv) not in (1, 2, 3):
        raise SystemExit(__doc__)
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        publish(folder, sys.argv[2] if len(sys.argv) == 3 else read_run(folder).config.name)
    refresh_readme()
