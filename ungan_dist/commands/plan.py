"""``ungan-dist plan``: estimate what a recipe costs on this machine or cluster, and what it can show."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING

from ungan_dist.commands.options import recipe_config
from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError
from ungan_dist.files import format_bytes

if TYPE_CHECKING:
    from ungan_dist.runs.forecast.forecast import Forecast
    from ungan_dist.runs.forecast.outlook import Outlook

USAGE = """\
usage: ungan-dist plan RECIPE [--no-probe] [--seconds S] [--json] [OPTIONS of run]

Estimate the cost of `ungan-dist run RECIPE` with the same options: models to train, wall time, device-hours, memory and
disk. Show the width of the intervals, the smallest δ that the run can resolve, and the gain from more seeds, shadow
models or forget examples. Nothing is kept on disk.

The estimate is rough, within about 50 %. One worker trains a shadow model on a few examples for some seconds; its
speed is scaled to the whole run. Scoring and the report are not included.

  --no-probe    only count models and compute the power
  --seconds S   time limit of the probe after its warm-up (default 8); one pass is always timed
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

    if own.no_probe:
        from ungan_dist.runs.forecast.forecast import make_extended_plan
        from ungan_dist.runs.forecast.outlook import make_outlook
        from ungan_dist.runs.rehearsal.process import rehearse

        plan = make_extended_plan(config, None)
        rehearse(plan)
        outlook = make_outlook(plan)
        print(_json(outlook) if own.json else "\n".join([*_counts(outlook), *_power(outlook)]))
        return 0

    from ungan_dist.launch import forecast

    found = forecast(config, seconds=own.seconds, began=began)
    text = [*_counts(found.outlook), *_cost(found), *_power(found.outlook, found)]
    print(_json(found) if own.json else "\n".join(text))
    return 0


def _json(found: Forecast | Outlook) -> str:
    values = dataclasses.asdict(found)
    if hasattr(found, "wall_seconds"):
        values["wall_seconds"] = found.wall_seconds  # pyright: ignore[reportAttributeAccessIssue]
    return json.dumps(values, indent=2, default=str)


def _counts(outlook: Outlook) -> list[str]:
    return [
        f"{outlook.folder}",
        f"  examples     {', '.join(f'{name} {size:,}' for name, size in outlook.sizes.items())}",
        f"  models       {outlook.num_models - outlook.num_models_done} to train or unlearn, "
        f"{outlook.num_models_done} done; {outlook.design.num_shadows} of them shadow models, "
        f"{outlook.num_shadows_done} done",
        f"  units        {outlook.num_units - outlook.num_units_done} to compute, {outlook.num_units_done} done",
    ]


def _cost(found: Forecast) -> list[str]:
    if not found.unit_seconds:
        return ["  cost         nothing is left to compute"]
    kind = "GPU" if found.device == "cuda" else "core"
    on_device = f", {format_bytes(found.device_memory_bytes)} on its GPU" if found.device == "cuda" else ""
    stages = ", ".join(f"{name} {_clock(seconds)}" for name, seconds in found.stages.items())
    shadow, original = found.unit_seconds["shadow model"], found.unit_seconds["original"]
    is_full = found.disk_bytes > found.free_disk_bytes
    return [
        f"  wall time    {_clock(found.wall_seconds)} ± 50 % on {found.num_workers} workers ({stages})",
        f"  {kind}-hours   {found.device_hours:.2f}; {shadow:.1f} s a shadow model, {original:.1f} s an original",
        f"  memory       {format_bytes(found.memory_bytes)} a worker{on_device}",
        f"  disk         {format_bytes(found.disk_bytes)} to write, {format_bytes(found.free_disk_bytes)} free"
        + (" — NOT ENOUGH" if is_full else ""),
        f"  probe        {found.probe_seconds:.0f} s; scoring and the report are not included",
    ]


def _power(outlook: Outlook, found: Forecast | None = None) -> list[str]:
    from ungan_dist.runs.forecast.outlook import compare_designs

    design, delta = outlook.design, outlook.delta
    more = found.more if found else {}
    head = f"  {'power, for δ = ' + format(delta, 'g'):<24} {'90 % gap':>9} {'δ passed':>9} {'leak seen':>10}"
    lines = [head + ("  more device-hours" if more else "")]
    powers = {name: power for name, (_, power) in compare_designs(design, delta, outlook.remedies).items()}
    for name, power in {"as requested": outlook.power, **powers}.items():
        width, leak = f"±{power.half_width:.3f}", power.observable_leak
        line = f"  {'  ' + name:<24} {width:>9} {power.smallest_delta:>9.3f} {leak:>10.3f}"
        lines.append(line + (f"  {more[name].device_hours:>17.2f}" if name in more else ""))
    return [
        *lines,
        f"  |D_f| {design.num_forget}, |D^s| {design.num_non_members}, {design.num_seeds} seed(s), "
        f"K {design.num_shadows}; spread between seeds beyond the examples: {outlook.spread_from}",
        "  δ passed: the smallest δ that a method equal to Retrain passes in four of five runs.",
        "  leak seen: how far this attack's AUC exceeds .5 if the best possible attack reaches .5 + δ.",
    ]


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
