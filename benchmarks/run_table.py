"""Format the table of a run, from ``results/NAME.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ungan_dist.attack.verdicts import LOST, NO_LEAK, has_power
from ungan_dist.config.attack import ATTACKS
from ungan_dist.config.methods import is_method

HEADER = (
    "| | retain % | forget % | test % | (a) TNR % @ 1 % FNR | (b) AUC, 95 % | verdict from (b) | gap, 90 % "
    "| smallest δ | T_U s |",
    "|---|---:|---:|---:|---:|---:|---|---:|---:|---:|",
)
CONTROLS = {
    "ungan": ("ungan_no_adversary", "ungan_random_critic"),
    "ungan_joint": ("ungan_joint_no_adversary",),
    "ungan_joint_critic": ("ungan_joint_random_critic",),
    "ungan_bce": ("ungan_bce_random_critic",),
}


def table(results: Mapping[str, Any]) -> str:
    """Format the main columns, the power of the run and the comparison of UnGAN with its controls."""
    run = results["table"]
    rows = [_cells(row, results["timings"]["methods"]) for row in run["rows"]]
    header = HEADER
    if any(row.get("ulira") for row in run["rows"]):
        header = (f"{header[0]} U-LiRA's AUC, 95 % |", f"{header[1]}---:|")
        rows = [[*cells, _ulira(row)] for row, cells in zip(run["rows"], rows, strict=True)]
    if all("test_forgotten" in row["accuracy"] for row in run["rows"]):
        header = (f"{header[0]} never seen, same class % |", f"{header[1]}---:|")
        rows = [[*cells, _percent(row, "non_members")] for row, cells in zip(run["rows"], rows, strict=True)]
    lines = [caption(results), *header, *(f"| {' | '.join(cells)} |" for cells in rows)]
    return "\n".join([*lines, "", _power(run), *_controls(run), ""])


def caption(results: Mapping[str, Any]) -> str:
    """State a run's data, recipe, sizes, hardware, commit, number of verdicts of methods, and its gravest caveat."""
    run, sizes = results["table"], results["table"]["sizes"]
    outcomes = Counter(row["verdict"]["outcome"] for row in run["rows"] if is_method(row["method"]))
    verdicts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    seeds = "1 seed" if sizes["seeds"] == 1 else f"{sizes['seeds']} seeds"
    return (
        f"**{run['title']}**, recipe `{run['recipe']}`: {sizes['shadows']} shadow models, {seeds}, "
        f"{sizes['forget']:,} examples to forget; {results['hardware']['cores']} CPU cores, "
        f"commit `{results['commit']}`. Verdicts of methods: {verdicts}.{_gravest_caveat(run)}\n"
    )


def _gravest_caveat(run: Mapping[str, Any]) -> str:
    """Return the first caveat of a run, which is its gravest; an empty text without any."""
    original = next(row for row in run["rows"] if row["method"] == "original")
    caveats = [*run.get("caveats", [])]
    if not caveats and original["verdict"]["outcome"] == NO_LEAK:
        gap = original["verdict"]["gap"]
        caveats = [
            f"No power: the attack shows no leak beyond δ = {run['delta']:g} in the original "
            f"(gap [{gap['low']:+.3f}, {gap['high']:+.3f}]), so this run says nothing about any method."
        ]
    caveats += [row["caveat"] for row in run["rows"] if row.get("caveat")]
    return f" **{caveats[0]}**" if caveats else ""


def _cells(row: Mapping[str, Any], seconds: Mapping[str, Any]) -> list[str]:
    auc, verdict, tnr = row["auc"], row["verdict"], row["tnr_at_fnr"]["0.01"]
    gap = verdict["gap"]
    return [
        row["title"],
        *(_percent(row, name) for name in ("retain", "forget", "test")),
        f"{100 * tnr['mean']:.1f}" if isinstance(tnr, dict) else tnr,
        f"{auc['mean']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]",
        _verdict(row),
        f"[{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else "",
        f"{verdict['smallest_delta']:.3f}" if gap else "",
        f"{seconds[row['method']]['mean']:.2f}",
    ]


def _percent(row: Mapping[str, Any], name: str) -> str:
    return f"{100 * row['accuracy'][name]['mean']:.1f}"


def _verdict(row: Mapping[str, Any]) -> str:
    """Write the outcome, the attack that decided if it is not LiRA, and what is left of the utility."""
    outcome, attack = row["verdict"]["outcome"], row["verdict"]["attack"]
    by = f" by {ATTACKS[attack]}" if attack != "lira" and has_power(outcome) else ""
    utility = f" ({row['utility']})" if row["utility"] and outcome != LOST else ""
    return f"{outcome}{by}{utility}"


def _ulira(row: Mapping[str, Any]) -> str:
    found = row.get("ulira")
    if not isinstance(found, dict):
        return found or "–"
    return f"{found['auc']['mean']:.3f} [{found['auc']['low']:.3f}, {found['auc']['high']:.3f}]"


def _power(run: Mapping[str, Any]) -> str:
    """State the margins that the run could have passed."""
    smallest = [row["verdict"]["smallest_delta"] for row in run["rows"] if row["verdict"]["gap"]]
    original = next(row["verdict"] for row in run["rows"] if row["method"] == "original")
    if original["outcome"] == NO_LEAK:
        return f"Power: none, because the interval of the original's gap does not lie beyond δ = {run['delta']:g}."
    return (
        f"Power: the original's gap lies beyond δ = {run['delta']:g}, so the attack sees its leak. "
        f"Depending on the row, the intervals could have passed a δ between "
        f"{min(smallest):.3f} and {max(smallest):.3f}. A row whose smallest δ exceeds {run['delta']:g} could not be "
        "*equivalent* in this run."
    )


def _controls(run: Mapping[str, Any]) -> list[str]:
    """Compare the AUC (b) of each form of UnGAN with that of its controls, paired by seed."""
    gaps = {row["method"]: row["verdict"]["gap"] for row in run["rows"]}
    titles = {row["method"]: row["title"] for row in run["rows"]}
    lines: list[str] = []
    for method, controls in CONTROLS.items():
        present = [name for name in controls if gaps.get(name)]
        if present and gaps.get(method) and len(gaps[method]["per_seed"]) >= 3:
            lines += ["", _compare(method, present, gaps, titles)]
    return lines


def _compare(method: str, controls: list[str], gaps: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    from ungan_dist.attack.intervals import student_t_interval

    differences: list[str] = []
    significant: list[str] = []
    for name in controls:
        pairs = zip(gaps[method]["per_seed"], gaps[name]["per_seed"], strict=True)
        interval = student_t_interval([one - control for one, control in pairs], 0.90)
        differences.append(f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}] against {titles[name]}")
        if interval.low > 0 or interval.high < 0:
            significant.append(titles[name])
    return (
        f"The adversary's part: {titles[method]}'s AUC (b) minus that of its controls, paired over "
        f"{len(gaps[method]['per_seed'])} seeds with 90 % intervals, is {' and '.join(differences)}. "
        + (
            f"{titles[method]} differs from {' and from '.join(significant)}."
            if significant
            else "No difference is distinguishable from zero, so this run gives no evidence that the adversary matters."
        )
    )
