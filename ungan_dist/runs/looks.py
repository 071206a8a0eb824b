"""``--until decided``: extend a run look by look, until every row is decided or the budget ends.

``stopping.json`` in the run folder states all looks before the first, and then what each decided. A look is a report on
more seeds or shadow models, made as any larger request is. The same command continues where it was stopped.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist import store
from ungan_dist.attack.evidence import Report, Row
from ungan_dist.attack.looks import Look, Stopping, list_levels
from ungan_dist.attack.verdicts import VERDICT_LEVEL, list_undecided
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.execution import BudgetConfig
from ungan_dist.config.identity import appended
from ungan_dist.config.methods import title_of
from ungan_dist.errors import ConfigError
from ungan_dist.runs.finished import Finished, extent_of_report, find_finished
from ungan_dist.runs.views import REPORT_FILE, Extent, describe_extent, list_views, read_extent

if TYPE_CHECKING:
    from ungan_dist.runs.plan import Plan

STOPPING_FILE = "stopping.json"
"""Record of the looks, in the run folder."""
NOT_A_LOOK = (
    "This report is none of the looks that were stated for this run (--until decided). Its size may have been chosen "
    "after a look at their verdicts, so the error rates of its verdicts are not known."
)


@dataclass(frozen=True, kw_only=True)
class LookRequest:
    """One look to be made."""

    looks: list[Look]
    """All looks that are stated."""
    index: int
    max_hours: float | None
    began: float
    """``time.monotonic()`` at its start."""

    @property
    def level(self) -> float:
        """Level of its intervals."""
        return self.looks[self.index].level

    @property
    def is_last(self) -> bool:
        return self.index == len(self.looks) - 1


def list_looks(config: AuditConfig) -> list[Look]:
    """List the looks of a config: its own extent, then twice the seeds each, then twice the shadow models each.

    Examples:
        >>> from ungan_dist.config.audit import AuditConfig
        >>> from ungan_dist.config.execution import BudgetConfig
        >>> budget = BudgetConfig(max_seeds=10, max_shadows=512)
        >>> config = AuditConfig(name="mine", num_seeds=4, until="decided", budget=budget)
        >>> [(look.num_seeds, look.num_shadows, round(look.level, 4)) for look in list_looks(config)]
        [(4, 256, 0.9875), (8, 256, 0.9875), (10, 256, 0.975), (10, 512, 0.95)]
    """
    first, shadows = config.num_seeds, config.shadows.num_models
    seeds = _double(first, config.budget.max_seeds or 4 * first)
    sizes = [(number, shadows) for number in seeds]
    sizes += [(seeds[-1], number) for number in _double(shadows, config.budget.max_shadows or shadows)[1:]]
    levels = list_levels(len(sizes), VERDICT_LEVEL)
    return [
        Look(num_seeds=number, num_shadows=models, level=level)
        for (number, models), level in zip(sizes, levels, strict=True)
    ]


def _double(first: int, most: int) -> list[int]:
    found = [first]
    while found[-1] < most:
        found.append(min(2 * found[-1], most))
    return found


def audit_in_looks(config: AuditConfig, audit: Callable[..., Report]) -> Report:
    """Audit look by look and return the report of the last one.

    Args:
        config: The config of the first look, with its budget.
        audit: Makes the report of a config; ``look`` is its ``LookRequest``.

    Raises:
        ConfigError: The run was begun with other looks.
    """
    looks = list_looks(config)
    report: Report | None = None
    for index, look in enumerate(looks):
        wanted = _extend(config, look)
        finished = find_finished(wanted)
        if finished is not None and _continues(finished, looks):
            continue
        request = LookRequest(looks=looks, index=index, max_hours=config.budget.max_hours, began=time.monotonic())
        report = audit(wanted, look=request)
        if report.status == "PARTIAL" or report.stopping is None or report.stopping.ended:
            break
    assert report is not None, "the last look ends"
    return report


def find_last_look(config: AuditConfig) -> Finished | None:
    """Find the finished report with which the looks of a config ended, without reading the data."""
    looks = list_looks(config)
    for look in looks:
        finished = find_finished(_extend(config, look))
        if finished is None or not _continues(finished, looks):
            path = None if finished is None else finished.report.stopping
            # more hours may have been given since
            is_last = path is not None and path.ended in ("decided", "looks") and _sizes(path.looks) == _sizes(looks)
            return finished if is_last else None
    return None


def _extend(config: AuditConfig, look: Look) -> AuditConfig:
    """Return the config of a look, which asks for its own extent alone."""
    return dataclasses.replace(
        config,
        until="complete",
        budget=BudgetConfig(),
        num_seeds=look.num_seeds,
        shadows=dataclasses.replace(config.shadows, num_models=look.num_shadows),
    )


def _continues(finished: Finished, looks: list[Look]) -> bool:
    path = finished.report.stopping
    return path is not None and not path.ended and _sizes(path.looks) == _sizes(looks)


def _sizes(looks: list[Look]) -> list[tuple[int, int]]:
    return [(look.num_seeds, look.num_shadows) for look in looks]


def state_looks(plan: Plan, request: LookRequest) -> None:
    """Write down the looks before the first one, or check them against those that the run was begun with.

    Raises:
        ConfigError: They are others, or the record is damaged.
    """
    wanted = {"looks": [[*sizes] for sizes in _sizes(request.looks)], "extent": _constant_extent(plan)}
    content = _read(plan.folder)
    if content is None:
        earlier = _list_reports(plan.folder)
        content = wanted | {"earlier": earlier, "made": [], "ended": ""}
    elif any(content[name] != value for name, value in wanted.items()):
        raise ConfigError(
            f"{plan.folder} was begun with other looks: {_describe_looks(content)}; now asked for: "
            f"{_describe_looks(wanted)}. A change of looks after the start would make the error rates unknown. Use the "
            f"options of the first command, or another --output"
        )
    elif content["ended"] == "hours" and not _is_time_up(content["made"], request.max_hours):
        content["ended"] = ""
    else:
        return
    store.write_record(plan.folder / STOPPING_FILE, content)


def read_stopping(plan: Plan) -> Stopping | None:
    """Read the path of the looks up to the report of a plan; None if it is none of the looks of its run."""
    content = _read(plan.folder)
    extent = appended(plan.record.config)
    sizes = [extent["num_seeds"], extent["shadows.num_models"]]
    if content is None or content["extent"] != _constant_extent(plan) or sizes not in content["looks"]:
        return None
    index, made = content["looks"].index(sizes), content["made"]
    levels = list_levels(len(content["looks"]), VERDICT_LEVEL)
    looks = [
        Look(
            num_seeds=number,
            num_shadows=models,
            level=level,
            undecided=made[place]["undecided"] if place < min(index, len(made)) else None,
        )
        for place, ((number, models), level) in enumerate(zip(content["looks"], levels, strict=True))
    ]
    ended = content["ended"] if index == len(made) - 1 else ""
    return Stopping(looks=looks, index=index, ended=ended, earlier=list(map(describe_extent, content["earlier"])))


def is_outside_looks(plan: Plan) -> bool:
    """Return whether a run has looks, of which the report of this plan is none, and the report is younger than they."""
    content = _read(plan.folder)
    is_known = content is None or appended(plan.record.config) in content["earlier"]
    return not is_known and read_stopping(plan) is None


def add_outcome(stopping: Stopping | None, rows: list[Row]) -> Stopping | None:
    """Add to a path what its last look leaves undecided."""
    if stopping is None:
        return None
    looks = [*stopping.looks]
    looks[stopping.index] = dataclasses.replace(looks[stopping.index], undecided=list_undecided(rows))
    return dataclasses.replace(stopping, looks=looks)


def record_look(plan: Plan, report: Report, request: LookRequest) -> Report:
    """Write down what a complete look decided, once, and return its report with the reason if none follows."""
    content = _read(plan.folder)
    assert content is not None, "the looks are stated first"
    assert report.stopping is not None, "the plan is that of a look"
    if report.status == "PARTIAL" or len(content["made"]) != request.index:
        return report
    undecided = report.stopping.looks[request.index].undecided
    content["made"].append({"undecided": undecided, "seconds": round(time.monotonic() - request.began, 3)})
    is_late = _is_time_up(content["made"], request.max_hours)
    content["ended"] = "decided" if not undecided else "looks" if request.is_last else "hours" if is_late else ""
    store.write_record(plan.folder / STOPPING_FILE, content)
    return dataclasses.replace(report, stopping=dataclasses.replace(report.stopping, ended=content["ended"]))


def describe_beginning(plan: Plan, request: LookRequest) -> str:
    """Describe a look that begins in one line: its size, its level, and what the look before left undecided."""
    look = request.looks[request.index]
    size = f"{look.num_seeds} seeds, {look.num_shadows} shadow models; intervals at {100 * look.level:.4g} %"
    text = f"look {request.index + 1} of {len(request.looks)} ({size})"
    if not request.index:
        return text
    content = _read(plan.folder)
    assert content is not None, "the looks are stated first"
    methods = [title_of(name) for name in content["made"][request.index - 1]["undecided"]]
    return f"{text}: because {', '.join(methods)} {'are' if len(methods) > 1 else 'is'} undecided"


def check_stopping(folder: Path) -> list[str]:
    """Describe a damaged record of looks; empty if it is intact or absent."""
    try:
        _read(folder)
    except ConfigError as error:
        return [str(error)]
    return []


def _is_time_up(made: list[dict[str, Any]], max_hours: float | None) -> bool:
    return max_hours is not None and sum(look["seconds"] for look in made) >= 3600 * max_hours


def _constant_extent(plan: Plan) -> Extent:
    """Return what all looks of a run have in common."""
    changing = ("num_seeds", "shadows.num_models")
    return {name: value for name, value in appended(plan.record.config).items() if name not in changing}


def _list_reports(folder: Path) -> list[Extent]:
    """List the extents of the finished reports of a run."""
    found: list[Extent] = []
    for place in ("", *list_views(folder)):
        try:
            if store.read_marker(folder / place / REPORT_FILE)["facts"]["status"] != "PARTIAL":
                extent = read_extent(folder, place) if place else extent_of_report(folder)
                found += [] if extent is None or extent in found else [extent]
        except (OSError, store.CorruptResult, ConfigError, KeyError):
            continue
    return found


def _describe_looks(content: dict[str, Any]) -> str:
    sizes = ", ".join(f"{seeds} seeds and {models} shadow models" for seeds, models in content["looks"])
    return f"{sizes} of {', '.join(content['extent']['methods'])}"


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / STOPPING_FILE
    try:
        content = store.read_record(path)
        if set(content) != {"looks", "extent", "earlier", "made", "ended"}:
            raise store.CorruptResult(f"{path} is no record of looks")
        return content
    except FileNotFoundError:
        return None
    except (store.CorruptResult, OSError) as error:
        raise ConfigError(
            f"{error}: restore {path} from a copy; without it, the looks that were made are unknown"
        ) from error
