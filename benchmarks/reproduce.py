"""Reproduce Table 1 of the paper as far as a budget allows: ``python benchmarks/reproduce.py --budget 2h``.

The steps go from the whole recipe ``paper`` to a small part of it. The first whose planned time fits is run, and
results/table1.md shows it beside the paper's figures. A plan may err by half, so a step must fit with that reserve. The
same command continues an interrupted run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import RESULTS, describe_commit, hardware

from ungan_dist import store

PAPER: dict[str, tuple[float, float, float, float, float]] = {
    "original": (89.05, 89.16, 75.21, 1.07, 0.00),
    "retrain": (88.77, 76.37, 74.83, 8.57, 49.12),
    "fine_tuning": (89.46, 88.97, 75.27, 1.26, 12.00),
    "random_labels": (87.27, 75.83, 73.56, 3.70, 15.00),
    "neg_grads": (88.76, 87.30, 75.04, 1.84, 4.00),
    "adv_neg_grads": (86.70, 74.02, 72.72, 6.40, 4.02),
    "unsir": (85.35, 82.12, 73.82, 1.98, 13.78),
    "scrub": (94.80, 74.81, 73.21, 9.63, 15.12),
    "cf_k": (89.07, 89.12, 75.28, 1.08, 2.62),
    "ungan": (93.52, 77.62, 74.25, 10.32, 13.06),
}
"""Retain, forget and test accuracy, LiRA's TNR at 1 % FNR, all in %, and T_U in seconds."""
ROWS = ("--methods", ",".join(PAPER))
# no set leaves a last batch of a few examples: a Retrain with one of eight has collapsed
SMALL = (
    "--split.train",
    "2048",
    "--split.shadow-pool",
    "2048",
    "--split.unseen",
    "1000",
    "--split.forget-fraction",
    "0.1",
)
STEPS: dict[str, tuple[str, ...]] = {
    "the whole recipe": (),
    "3 seeds": ("--num-seeds", "3"),
    "3 seeds, 64 shadow models": ("--num-seeds", "3", "--shadows.num-models", "64"),
    "1 seed, 32 shadow models": ("--num-seeds", "1", "--shadows.num-models", "32"),
    "3 seeds, 32 shadow models, a tenth of the data": ("--num-seeds", "3", "--shadows.num-models", "32", *SMALL),
    "1 seed, 8 shadow models, a tenth of the data": ("--num-seeds", "1", "--shadows.num-models", "8", *SMALL),
}
"""What is left of the recipe → options, the largest first."""
RESERVE = 1.5


def main(arguments: Sequence[str]) -> int:
    """Run the largest step that fits; 3 if none does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=parse_seconds, default=7200.0, help="such as 90min or 2h (the default)")
    parser.add_argument("--output", type=Path, default=Path("runs"))
    parser.add_argument("--results", type=Path, default=RESULTS / "table1.md")
    parser.add_argument("options", nargs="*", help="further options of ungan-dist run, after --")
    asked = parser.parse_args(arguments)
    planned = 0.0
    for step, words in STEPS.items():
        command = ("paper", *ROWS, *words, "--output", str(asked.output), *asked.options)
        planned = plan_seconds(command)
        print(f"{step}: {planned / 60:.0f} min planned", flush=True)
        if RESERVE * planned <= asked.budget:
            done = subprocess.run([sys.executable, "-W", "ignore", "-m", "ungan_dist", "run", *command])
            if done.returncode not in (0, 4):  # 4: complete, with methods that failed
                return done.returncode
            store.write_file(
                asked.results, write_table(find_run(command), step, asked.budget, os.getloadavg()[2]).encode()
            )
            print(f"written to {asked.results}")
            return 0
    print(f"nothing fits: the smallest step needs a budget of {RESERVE * planned / 3600:.1f}h", file=sys.stderr)
    return 3


def parse_seconds(text: str) -> float:
    """Parse a time such as 90s, 45min or 2h.

    Examples:
        >>> parse_seconds("2h"), parse_seconds("45min")
        (7200.0, 2700.0)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(s|min|h)", text)
    if not found or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 45min or 2h")
    return float(found[1]) * {"s": 1, "min": 60, "h": 3600}[found[2]]


def plan_seconds(command: Sequence[str]) -> float:
    """Return the planned wall time of a run: 0 if it is complete, infinite if nothing could be timed."""
    seconds = _plan(command).get("wall_seconds", 0.0)
    return float("inf") if seconds is None else float(seconds)


def find_run(command: Sequence[str]) -> Path:
    """Return the folder of a run."""
    found = _plan(command)
    return Path(found["folder"] if "folder" in found else found["outlook"]["folder"])


def _plan(command: Sequence[str]) -> dict[str, Any]:
    words = [sys.executable, "-W", "ignore", "-m", "ungan_dist", "plan", *command, "--json", "--seconds", "30"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)  # it has printed the reason
    return json.loads(done.stdout)


def write_table(run: Path, step: str, budget_s: float, load: float) -> str:
    """Format a finished run beside the paper's figures.

    Args:
        run: The run's folder.
        step: What is left of the recipe.
        budget_s: The budget in seconds.
        load: The machine's load average over the last 15 minutes: other work makes T_U longer.
    """
    table, timings = store.read_json(run / "table.json"), store.read_json(run / "timings.json")
    sizes, machine = table["sizes"], hardware()
    lines = [
        "# Table 1",
        "",
        f"What fits in {_count(budget_s / 3600, 'hour')}: {step}. {table['title']}, {sizes['train']:,} training "
        f"examples, {sizes['forget']:,} to forget, {sizes['shadows']} shadow models, "
        f"{_count(sizes['seeds'], 'seed')}; commit `{describe_commit()}`, {machine['cores']} cores ({machine['cpu']}), "
        f"{machine['gpus'] or 'no GPU'}. Each cell "
        "has the paper's figure, then ours with its 95 % interval; times are those of two machines. "
        f"The load average of ours was {load:.1f} at the end.",
        "",
        "| | Retain acc., % | Forget acc., % | Test acc., % | LiRA: TNR, % @ 1 % FNR | T_U, s | Verdict |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    rows = {row["method"]: row for row in table["rows"]}
    for method, figures in PAPER.items():
        row = rows.get(method)
        if row is None:
            lines.append(f"| {method} | {' | '.join(f'{figure:.2f}; –' for figure in figures)} | not in this run |")
            continue
        found = [row["accuracy"][part] for part in ("retain", "forget", "test")] + [row["tnr_at_fnr"]["0.01"]]
        cells = [_cell(figure, value) for figure, value in zip(figures, found, strict=False)]
        cells.append(f"{figures[-1]:.2f}; {timings['methods'][method]['mean']:.3g}")
        verdict = row["verdict"]["outcome"] if row["verdict"] else "reference"
        lines.append(f"| {row['title']} | {' | '.join(cells)} | {verdict} |")
    return "\n".join([*lines, ""])


def _count(number: float, thing: str) -> str:
    return f"{number:g} {thing}{'' if number == 1 else 's'}"


def _cell(paper: float, ours: Mapping[str, float]) -> str:
    return f"{paper:.2f}; {100 * ours['mean']:.2f} [{100 * ours['low']:.2f}, {100 * ours['high']:.2f}]"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
