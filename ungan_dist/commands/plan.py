"""``ungan-dist plan``: what a recipe will cost here, and what it can show."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from ungan_dist.commands.jobs import Options
from ungan_dist.commands.options import recipe_config
from ungan_dist.errors import ConfigError

if TYPE_CHECKING:
    from ungan_dist.runs.forecast.forecast import Forecast
    from ungan_dist.runs.forecast.outlook import Outlook

USAGE = """\
usage: ungan-dist plan RECIPE [--no-probe] [--seconds S] [--json] [OPTIONS of run]

Says what `ungan-dist run RECIPE` with the same options would do, and trains nothing that is kept: models to train and
done; wall time, device-hours, memory and disk, from a few real epochs of everything, timed in as many processes (or on
as many workers of --cluster) as the run would have; the width of the intervals and the smallest δ to hope for, and what
more seeds, shadow models or forget examples would buy.

  --no-probe    only what costs nothing: models and power
  --seconds S   about what the probe's measuring may take (default 8); long epochs are thinned to fit
  --json        the same as JSON

The estimate is for the machine as it is now: a core that others use half is counted as half a core.
exit codes: 0; 2 wrong config or input
"""


def main(arguments: list[str]) -> int:
    """Forecasts a run."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    import time

    begun = (time.perf_counter(), time.process_time())
    recipe, *words = arguments
    if {"-h", "--help"} & set(words):
        print(USAGE, end="")
        return 0
    parser = Options("plan")
    parser.add_argument("--no-probe", action="store_true")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", action="store_true")
    own, options = parser.parse_known_args(words)
    if not 0 < own.seconds < 3600:
        raise ConfigError(f"--seconds must lie between 0 and 3600, got {own.seconds:g}")
    config = recipe_config([recipe, *options], command="plan")

    if own.no_probe:
        from ungan_dist.runs.forecast.forecast import plan_of
        from ungan_dist.runs.forecast.outlook import outlook

        known = outlook(plan_of(config, None))
        print(_json(known) if own.json else "\n".join([*_counts(known), *_power(known)]))
        return 0

    from ungan_dist.launch import forecast
    from ungan_dist.runs.forecast.probe import Cost

    found = forecast(config, seconds=own.seconds, begun=Cost(*begun))
    print(
        _json(found) if own.json else "\n".join([*_counts(found.outlook), *_cost(found), *_power(found.outlook, found)])
    )
    return 0


def _json(found: Forecast | Outlook) -> str:
    values = dataclasses.asdict(found)
    for name in ("wall_seconds", "cpu_seconds"):
        if hasattr(found, name):
            values[name] = getattr(found, name)
    return json.dumps(values, indent=2, default=str)


def _counts(known: Outlook) -> list[str]:
    return [
        f"{known.folder}",
        f"  models       {known.num_models - known.num_models_done} to train or unlearn, {known.num_models_done} done; "
        f"{known.design.num_shadows} of them shadow models, {known.num_shadows_done} done",
        f"  units        {known.num_units - known.num_units_done} to compute, {known.num_units_done} done",
    ]


def _cost(found: Forecast) -> list[str]:
    kind = "GPU" if found.device == "cuda" else "core"
    memory = f"{_bytes(found.memory_bytes)} a worker"
    if found.device == "cuda":
        memory += f", {_bytes(found.device_memory_bytes)} on its GPU"
    disk = f"{_bytes(found.disk_bytes)} to write, {_bytes(found.free_disk_bytes)} free"
    parts = ", ".join(f"{stage.name} {_clock(stage.wall_seconds)}" for stage in found.stages)
    shadow, original = found.unit_seconds["shadow model"], found.unit_seconds["original"]
    thinned = f"; sets thinned by {found.divisor}" if found.divisor > 1 else ""
    return [
        f"  wall time    {_clock(found.wall_seconds)} on {found.num_workers} workers ({parts})",
        f"  {kind}-hours   {found.device_hours:.2f}; {shadow:.1f} s a shadow model, {original:.1f} s an original",
        f"  memory       {memory}",
        f"  disk         {disk}" + (" — NOT ENOUGH" if found.disk_bytes > found.free_disk_bytes else ""),
        f"  probe        {found.probe_seconds:.0f} s; each had {100 * found.cpu_share:.0f} % of a core{thinned}",
    ]


def _power(known: Outlook, found: Forecast | None = None) -> list[str]:
    from ungan_dist.runs.forecast.outlook import more

    design, delta = known.design, known.delta
    head = f"  {'power, for δ = ' + format(delta, 'g'):<24} {'90 % gap':>9} {'δ passed':>9} {'leak seen':>10}"
    lines = [head + ("  more device-hours" if found else "")]
    for name, power in {
        "as asked": known.power,
        **{name: gained for name, (_, gained) in more(design, delta, known.levers).items()},
    }.items():
        line = f"  {'  ' + name:<24} {f'±{power.half_width:.3f}':>9} {power.smallest_delta:>9.3f} {power.seen:>10.3f}"
        extra = found.more.get(name) if found else None
        lines.append(line + (f"  {extra.device_hours:>17.2f}" if extra else ""))
    return [
        *lines,
        f"  |D_f| {design.num_forget}, |D^s| {design.num_non_members}, {design.num_seeds} seed(s), "
        f"K {design.num_shadows}; spread between seeds beyond the examples: {known.spread_from}",
        "  δ passed: by a method equal to Retrain, in four runs of five. leak seen: how far from .5 the attack puts a",
        "  leak that the best attack would put δ from .5, were every example to leak alike.",
    ]


def _bytes(count: int) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"


def _clock(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
