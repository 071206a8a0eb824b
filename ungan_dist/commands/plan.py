"""``ungan-dist plan``: estimate what a recipe costs on this machine or cluster, and what it can show."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

from ungan_dist.commands.options import check_records, recipe_config
from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError
from ungan_dist.files import format_bytes

if TYPE_CHECKING:
    from ungan_dist.config.audit import AuditConfig
    from ungan_dist.runs.forecast.forecast import Forecast
    from ungan_dist.runs.forecast.outlook import Outlook
    from ungan_dist.runs.progress import ProgressCallback

USAGE = """\
usage: ungan-dist plan RECIPE [--no-probe] [--seconds S] [--json] [OPTIONS of run]

Estimate the cost of `ungan-dist run RECIPE` with the same options: models to train, wall time, device-hours, memory and
disk. Show the width of the intervals, the smallest δ that the run can resolve, and the gain from more seeds, shadow
models or forget examples. Nothing is kept on disk.

The estimate is rough, within about 50 %. One worker trains a shadow model on a few examples for some seconds; its
speed is scaled to the whole run. Scoring and the report are not included. The line "measured" names what was timed. If
nothing could be timed, no cost is given. A finished run is answered at once. A quick audit (--attack.quick) has no
shadow models; nothing is timed, and what it cannot show is stated in place of its power.

  --no-probe    only count models and compute the power
  --seconds S   time limit of everything that is measured (default 8); a rehearsal of your model takes half of it at
                most. Reading the data, and starting one or two processes, comes on top
  --json        print JSON

exit codes: 0 success; 2 wrong config or input
"""


def main(arguments: list[str]) -> int:
    """Print the estimate for a recipe."""
    began = time.perf_counter()
    recipe, *words = arguments or [""]
    parser = Parser("plan")
    parser.add_argument("--no-probe", action="store_true")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", action="store_true")
    own, options = parser.parse_known_args(words)
    if not 0 < own.seconds < 3600:
        raise ConfigError(f"--seconds must lie between 0 and 3600, got {own.seconds:g}")
    config = recipe_config([recipe, *options], command="plan")
    check_records(config)

    from ungan_dist.runs.progress import progress

    with progress(config.execution.progress) as on_progress:
        if own.no_probe or config.attack.quick:
            found = _count(config, own.seconds, on_progress)
        else:
            from ungan_dist.launch import forecast

            found = forecast(config, seconds=own.seconds, began=began, on_progress=on_progress)
    print(_json(found) if own.json else "\n".join([*_lines(found), *_looks(config)]))
    return 0


def _count(config: AuditConfig, seconds: float, on_progress: ProgressCallback) -> Outlook:
    from ungan_dist.launch import find_finished_outlook
    from ungan_dist.runs.forecast.forecast import plan_in_folder
    from ungan_dist.runs.forecast.outlook import make_outlook
    from ungan_dist.runs.rehearsal.process import rehearse

    if (finished := find_finished_outlook(config)) is not None:
        return finished[0]
    plan = plan_in_folder(config, None)
    rehearse(plan, on_progress=on_progress, limit_s=seconds)
    return make_outlook(plan)


def _json(found: Forecast | Outlook) -> str:
    values = dataclasses.asdict(found)
    if hasattr(found, "wall_seconds"):
        values["wall_seconds"] = found.wall_seconds  # pyright: ignore[reportAttributeAccessIssue]
    return json.dumps(values, indent=2, default=str)


def _lines(found: Forecast | Outlook) -> list[str]:
    from ungan_dist.runs.forecast.outlook import Outlook

    if isinstance(found, Outlook):
        return [*_counts(found), *_power(found), *_warnings(found)]
    return [*_counts(found.outlook), *_cost(found), *_power(found.outlook, found), *_warnings(found.outlook)]


def _warnings(outlook: Outlook) -> list[str]:
    return [f"  warning      {warning}" for warning in outlook.warnings]


def _looks(config: AuditConfig) -> list[str]:
    """List the looks of ``--until decided``; the figures above are those of the first."""
    if config.until != "decided":
        return []
    from ungan_dist.runs.looks import list_looks

    looks = [
        f"{look.num_seeds} seeds and {look.num_shadows} shadow models at {100 * look.level:.4g} %"
        for look in list_looks(config)
    ]
    return [
        f"  looks        {', '.join(looks)}",
        "               The run ends with the first look that decides every row. The figures above are those of the "
        "first look,",
        "               with intervals of 90 %; each look's own level is higher, because the looks share one error.",
    ]


def _counts(outlook: Outlook) -> list[str]:
    return [
        f"{outlook.folder}",
        f"  examples     {', '.join(f'{name} {size:,}' for name, size in outlook.sizes.items())}",
        f"  models       {outlook.num_models - outlook.num_models_done} to train or unlearn, "
        f"{outlook.num_models_done} done; {outlook.design.num_shadows} of them shadow models, "
        f"{outlook.num_shadows_done} done",
        *_unlearned_shadows(outlook),
        f"  engine       {outlook.engine}",
        *_kernels(outlook.kernels),
    ]


def _unlearned_shadows(outlook: Outlook) -> list[str]:
    if not outlook.num_unlearned_shadows:
        return []
    left = outlook.num_unlearned_shadows - outlook.num_unlearned_shadows_done
    return [f"  U-LiRA       {left} of these are shadow models to unlearn, {outlook.num_unlearned_shadows_done} done"]


def _kernels(kernels: dict[str, str]) -> list[str]:
    """Name each reason once, with its operations."""
    by_reason: dict[str, list[str]] = {}
    for operation, reason in kernels.items():
        by_reason.setdefault(reason, []).append(operation)
    lines = [f"{', '.join(operations)}: {reason}" for reason, operations in by_reason.items()]
    return [f"  {'kernels' if index == 0 else '':<12} {line}" for index, line in enumerate(lines)]


def _cost(found: Forecast) -> list[str]:
    if found.wall_seconds is None or found.device_hours is None:
        return [
            "  cost         not known: one worker must train a model first, and had too little time",
            f"  measured     {found.measured}; give it more --seconds",
        ]
    if not found.unit_seconds:
        return ["  cost         nothing is left to compute"]
    kind = "GPU" if found.device == "cuda" else "core"
    on_device = f", {format_bytes(found.device_memory_bytes or 0)} on its GPU" if found.device == "cuda" else ""
    stages = ", ".join(f"{name} {_clock(seconds)}" for name, seconds in found.stages.items())
    shadow, original = found.unit_seconds["shadow model"], found.unit_seconds["original"]
    memory, disk = found.memory_bytes or 0, found.disk_bytes or 0
    is_full = disk > found.free_disk_bytes
    return [
        f"  wall time    {_clock(found.wall_seconds)} ± 50 % on {found.num_workers} workers ({stages})",
        f"  {kind}-hours   {found.device_hours:.2f}; {shadow:.1f} s a shadow model, {original:.1f} s an original",
        *(
            [
                f"  U-LiRA       {_clock(found.unlearned_seconds)} of one worker, as much as "
                f"{found.unlearned_seconds / shadow:.0f} trainings of a shadow model"
            ]
            if found.unlearned_seconds
            else []
        ),
        f"  memory       {format_bytes(memory)} a worker{on_device}",
        f"  disk         {format_bytes(disk)} to write, {format_bytes(found.free_disk_bytes)} free"
        + (" — NOT ENOUGH" if is_full else ""),
        *_stages(found),
        f"  measured     in {found.probe_seconds:.0f} s: {found.measured}",
        "               the rest is estimated from it; scoring and the report are not included",
    ]


def _stages(found: Forecast) -> list[str]:
    """State which number of unlearnings of an original gives an interval at the lowest cost."""
    if not found.unlearnings:
        return []
    spread, costs = found.outlook.stages, found.unlearnings
    best = min(costs, key=lambda number: costs[number])
    others = [f"{number}: {100 * (cost / costs[best] - 1):+.0f} %" for number, cost in costs.items() if number != best]
    return [
        f"  stages       originals vary by {spread.originals:.3f} AUC, their unlearnings by {spread.unlearnings:.3f} "
        f"({found.outlook.stages_from})",
        f"               worth buying: {best} unlearning{'s' if best > 1 else ''} of each original, then more seeds; "
        f"the same interval costs with {', '.join(others)}",
    ]


def _power(outlook: Outlook, found: Forecast | None = None) -> list[str]:
    from ungan_dist.config.attack import LARGEST_DELTA
    from ungan_dist.report.cells import format_delta
    from ungan_dist.runs.forecast.outlook import QUICK_LIMIT, compare_designs, describe_margin

    if outlook.is_quick:
        return [f"  limits       {QUICK_LIMIT}"]
    design, delta = outlook.design, outlook.delta
    more = found.more if found else {}
    head = f"  {'power, for δ = ' + format(delta, 'g'):<24} {'90 % gap':>9} {'smallest δ':>11} {'leak seen':>10}"
    lines = [head + ("  more device-hours" if more else "")]
    designs = compare_designs(design, delta, outlook.remedies, saved=outlook.saved_variance)
    powers = {name: power for name, (_, power) in designs.items()}
    for name, power in {"as requested": outlook.power, **powers}.items():
        width, leak = f"±{power.half_width:.3f}", power.observable_leak
        passed = format_delta(power.smallest_delta) if power.smallest_delta < LARGEST_DELTA else "none"
        line = f"  {'  ' + name:<24} {width:>9} {passed:>11} {leak:>10.3f}"
        lines.append(line + (f"  {more[name].device_hours:>17.2f}" if name in more else ""))
    return [
        *lines,
        "    90 % gap     half width of the interval of a method's gap to Retrain",
        "    smallest δ   the margin within which a method equal to Retrain is found equivalent, in four of five runs",
        "    leak seen    how far LiRA's AUC exceeds .5, if the best possible attack reaches .5 + δ",
        f"  in short     {describe_margin(outlook)}",
        f"  assumed      {design.num_forget} forget examples, {design.num_non_members} non-members, "
        f"{design.num_seeds} seed(s), {design.num_shadows} shadow models; spread between seeds beyond the examples: "
        f"{outlook.spread_from}",
    ]


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
