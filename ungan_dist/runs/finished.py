"""Recognise a finished run from its folder, without torch, so that the same command only prints its report."""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import RESULTS_VERSION, appended, identity, plain
from ungan_dist.errors import ConfigError
from ungan_dist.files import cache_folder, hash_bytes
from ungan_dist.runs.record import data_path, given_paths, read_plain, read_run
from ungan_dist.runs.snapshot import from_plain, to_plain
from ungan_dist.runs.status import RunState, current_state
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Report
    from ungan_dist.runs.plan import Plan

FINISHED_FILE = "finished.json"
_VERSION = 1
_REPORT = "report.json"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A complete run whose files and inputs are unchanged."""

    folder: Path
    report: Report
    """The part of the report that a terminal shows."""


def record_finished(plan: Plan, config: AuditConfig, report: Report) -> None:
    """Write down what a complete report covers: its inputs and results, with their sizes and times, and its table.

    Args:
        plan: The plan of the run.
        config: The config as asked, with its execution settings.
        report: The report that was committed.
    """
    path = plan.folder / FINISHED_FILE
    if report.status != "COMPLETE":
        path.unlink(missing_ok=True)
        return
    output = plan.folder.parent
    results = {name: _stat(output / name) for name in _result_files(plan)}
    content = {
        "version": _VERSION,
        "settings": _settings(config),
        "inputs": {str(place): _fingerprint(place) for place in _inputs(plan.record.config)},
        "results": results,
        "report": store.read_json(plan.folder / _REPORT)["id"],
        "shown": to_plain(report),
    }
    if _read(path) != content:
        try:
            store.write_json(path, content)
        except ValueError:  # a number that is not finite: the report is built anew each time
            path.unlink(missing_ok=True)


def find_finished(config: AuditConfig) -> Finished | None:
    """Find a finished run that already has everything a config asks for.

    Returns:
        The run, or ``None`` if anything differs or cannot be checked without reading the data.
    """
    if is_url(config.output) or config.train.num_workers > 1:
        return None
    output, name = Path(config.output).resolve(), config.execution.run_name
    for folder in [output / name] if name else sorted(output.glob(f"{config.name}-*")):
        content = _read(folder / FINISHED_FILE)
        try:
            if content is not None and _covers(folder, config) and content["settings"] == _settings(config):
                found = _check(folder, content)
                if found is not None:
                    return found
        except (ConfigError, KeyError, TypeError, ValueError, OSError):
            continue
    return None


def find_report(folder: Path) -> Finished | None:
    """Return the finished run in a folder, or ``None`` if its report may have to be written again."""
    try:
        folder = folder.resolve()
        content = _read(folder / FINISHED_FILE)
        if content is None:
            return None
        # a report that is written again shows no examples and prepares no data
        asked = _settings(read_run(folder).config) | {"data": content["settings"]["data"]}
        return _check(folder, content) if content["settings"] == asked else None
    except (ConfigError, KeyError, TypeError, ValueError, OSError):
        return None


def _covers(folder: Path, config: AuditConfig) -> bool:
    """Whether the run in a folder has the identity of a config and at least its methods, seeds and shadow models."""
    record, asked = read_plain(folder), appended(config)
    done = record["appended"]
    return (
        record["identity"] == identity(config)
        and record["results_version"] == RESULTS_VERSION
        and set(asked["methods"]) <= set(done["methods"])
        and all(asked[name] <= done[name] for name in ("num_seeds", "shadows.num_models"))
    )


def _check(folder: Path, content: dict[str, Any]) -> Finished | None:
    if content["version"] != _VERSION or current_state(folder) is not RunState.COMPLETE:
        return None
    facts = store.committed(folder, _REPORT, id=content["report"])
    if facts is None or facts["status"] != "COMPLETE":
        return None
    if any(_fingerprint(Path(place)) != before for place, before in content["inputs"].items()):
        return None
    if any(_stat(folder.parent / name) != before for name, before in content["results"].items()):
        return None
    return Finished(folder=folder, report=from_plain(content["shown"]))


def _settings(config: AuditConfig) -> dict[str, Any]:
    """What is no part of a run's identity, yet decides what the same command would write or read."""
    return {
        "report": plain(config.report),
        "data": plain(config.data),
        "source": data_path(config),
        "given": given_paths(config),
        "host": platform.node(),
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "code": _package_fingerprint(),
        "folder": None if config.model.factory is None else os.getcwd(),
    }


@functools.cache
def _package_fingerprint() -> str:
    return _fingerprint(Path(__file__).parents[1], suffix=".py")


def _inputs(config: AuditConfig) -> list[Path]:
    """Every file or folder that the results were made from."""
    places = [Path(path) for path in given_paths(config).values()]
    if (path := data_path(config)) is not None:
        places.append(Path(path))
    elif config.source.kind != "digits":
        places += sorted(cache_folder().glob("cifar*"))
    if config.model.factory is not None:
        places += sorted(_user_modules(Path.cwd()))
    return places


def _user_modules(folder: Path) -> Iterator[Path]:
    """Files of the imported modules below a folder: the code behind a user's model."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder) and "site-packages" not in file:
            yield Path(file)


def _result_files(plan: Plan) -> Iterator[str]:
    """Names of all committed files of a run, relative to the output folder."""
    from ungan_dist.runs.units import root_of

    prepared = plan.originals[0].prepared
    markers = [(Path(prepared.output), prepared.marker), (plan.folder, "membership.json")]
    if prepared.loader == "ffcv":
        markers.append((Path(prepared.output), prepared.beton.marker))
    markers += [(root_of(unit), unit.marker) for unit in (*plan.targets, *plan.shadows)]
    for root, marker in markers:
        for name in (marker, *store.read_json(root / marker)["files"]):
            yield str((root / name).relative_to(plan.folder.parent))


def _stat(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _fingerprint(place: Path, suffix: str = "") -> str:
    """Return a hash of the names, sizes and times of a file, or of everything in a folder."""
    if not place.is_dir():
        return str(_stat(place)) if place.exists() else "absent"
    lines: list[str] = []
    for folder, _, names in os.walk(place, followlinks=True):
        lines += [f"{folder}/{name} {_stat(Path(folder, name))}" for name in names if name.endswith(suffix)]
    return hash_bytes("\n".join(sorted(lines)).encode())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = store.read_json(path)
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
