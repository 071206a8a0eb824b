"""Recognise a finished run from its folder, without torch, so that the same command only prints its report."""

from __future__ import annotations

import dataclasses
import functools
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist import store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import RESULTS_VERSION, appended, identity, plain
from ungan_dist.config.run_model import find_run_model
from ungan_dist.config.training import TOGETHER
from ungan_dist.data.sources.layout import is_output
from ungan_dist.errors import ConfigError
from ungan_dist.files import cache_folder, hash_bytes
from ungan_dist.runs.record import CONFIG_FILE, data_path, folder_of, given_paths, read_plain, read_run
from ungan_dist.runs.snapshot import from_plain, to_plain
from ungan_dist.runs.status import RunState, current_state
from ungan_dist.runs.views import MEMBERSHIP_FILE, REPORT_FILE, Extent, find_place, read_extent, split_place
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Report
    from ungan_dist.runs.plan import Plan

FINISHED_FILE = "finished.json"
_VERSION = 1
_UNREADABLE = (
    ConfigError,
    store.CorruptResult,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OSError,
    RecursionError,
)
_MEMBERSHIP = (MEMBERSHIP_FILE, "membership.npy")
_CODE = (".py", ".j2", ".css", ".js")


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A complete report of a run whose files and inputs are unchanged."""

    folder: Path
    """Folder of the report."""
    report: Report
    """The part of the report that a terminal shows."""
    work: dict[str, Any] | None
    """The run's ``plan.Work`` as plain data; ``None`` in records of earlier versions."""


def fingerprint_inputs(config: AuditConfig) -> dict[str, str] | None:
    """Fingerprint every file that the results of a run are made from; call it before the run reads them.

    Returns:
        The fingerprint of each file or folder, or ``None`` if they cannot be watched. That is so for a model of the
        user, whose code may read anything, and for an input that is absent or unreadable.
    """
    if config.model.factory is not None:
        return None
    models = [find_run_model(path) for path in given_paths(config).values()]
    places = [
        Path(path if model is None else f"{model.folder}/{CONFIG_FILE}").expanduser()
        for path, model in zip(given_paths(config).values(), models, strict=True)
    ]
    if (path := data_path(config)) is not None:
        places.append(Path(path))
    try:
        if path is None and config.source.kind not in ("digits", "digits_table"):
            places += sorted(cache_folder().glob("cifar*"))
        return {str(place): _fingerprint(place) for place in places}
    except OSError:  # absent or unreadable; the run itself names the reason
        return None


def record_finished(plan: Plan, config: AuditConfig, report: Report, inputs: dict[str, str] | None) -> None:
    """Write down what a complete report covers: its inputs and results, with their sizes and times, and its table.

    Nothing is written if the report is partial. If the inputs changed during the run, or cannot be watched, the record
    serves ``verify --quick`` alone.

    Args:
        plan: The plan of the run.
        config: The config as asked, with its execution settings.
        report: The report that was committed.
        inputs: From ``fingerprint_inputs``, before the run read them.
    """
    path = plan.report_folder / FINISHED_FILE
    try:
        if report.status != "COMPLETE":
            path.unlink(missing_ok=True)
            return
        content = {
            "version": _VERSION,
            "settings": _settings(config),
            "extent": read_extent(plan.folder, plan.place),
            "inputs": inputs if inputs == fingerprint_inputs(config) else None,
            "results": {name: _stat(plan.folder / name) for name in _result_files(plan)},
            "report": store.read_marker(plan.report_folder / REPORT_FILE)["id"],
            "shown": to_plain(report),
            "work": dataclasses.asdict(plan.work),
        }
        if _read(path) != content:
            store.write_record(path, content)
    except (
        OSError,
        store.CorruptResult,
        KeyError,
        ValueError,
    ):  # such as a result that was removed, or a number that is not finite
        path.unlink(missing_ok=True)


def copy_finished(run: Path, place: str) -> None:
    """Copy the record of a run's own finished report to a view with the same report and membership."""
    content = _read(run / FINISHED_FILE)
    if content is None or content["report"] != store.read_marker(run / place / REPORT_FILE)["id"]:
        return
    copied = [name for name in content["results"] if name in _MEMBERSHIP]
    results = {name: stat for name, stat in content["results"].items() if name not in copied}
    results |= {f"{place}/{name}": _stat(run / place / name) for name in copied}
    store.write_record(run / place / FINISHED_FILE, content | {"results": results})


def extent_of_report(run: Path) -> Extent | None:
    """Return the extent of the report in a run folder, which a larger request may not have replaced yet."""
    marker, content = store.read_marker(run / REPORT_FILE), _read(run / FINISHED_FILE)
    if "extent" in marker["facts"]:
        return marker["facts"]["extent"]
    # reports of earlier versions
    return content["extent"] if content is not None and content["report"] == marker["id"] else None


def find_finished(config: AuditConfig) -> Finished | None:
    """Find the finished report of a request.

    Returns:
        The report, or ``None`` if anything differs or cannot be checked without reading the data.
    """
    if is_url(config.output) or config.train.num_workers > 1 or config.model.factory is not None:
        return None
    output, name = Path(config.output).resolve(), config.execution.run_name
    for folder in [output / name] if name else sorted(output.glob(f"{config.name}-*")):
        try:
            if not _is_run_of(config, folder):
                continue
            place = find_place(folder, read_plain(folder)["run_hash"], appended(config))
            content = _read(folder / place / FINISHED_FILE)
            if content is None or content["settings"] != _settings(config):
                continue
            found = _check(folder / place, content, wanted=appended(config))
            if found is not None:
                return found
        except _UNREADABLE:
            continue
    return None


def find_report(folder: Path) -> Finished | None:
    """Return the finished report of a run or view, or ``None`` if it may have to be written again."""
    try:
        folder = folder.resolve()
        content = _read(folder / FINISHED_FILE)
        if content is None:
            return None
        # a report that is written again shows no examples and prepares no data
        stored = {name: value for name, value in content["settings"].items() if name in ("data", "split", "fnr")}
        asked = _settings(read_run(split_place(folder)[0]).config) | stored
        return _check(folder, content) if content["settings"] == asked else None
    except _UNREADABLE:
        return None


def _is_run_of(config: AuditConfig, folder: Path) -> bool:
    """Whether the run in a folder is the one that a config names."""
    record, identity_asked = read_plain(folder), identity(config)
    if record["resolved"]["engine"] not in TOGETHER:  # only their results depend on the size
        identity_asked["shadows"]["unit_size"] = record["identity"]["shadows"]["unit_size"]
    if config.split.follows_data:  # the settings tell which sizes, and the inputs whether the data are the same
        identity_asked["split"] = record["identity"]["split"]
        identity_asked["attack"]["fnr"] = record["identity"]["attack"]["fnr"]
    return (
        record["identity"] == identity_asked
        and record["results_version"] == RESULTS_VERSION
        and folder == folder_of(config, record["run_hash"]).resolve()
    )


def _check(folder: Path, content: dict[str, Any], *, wanted: Extent | None = None) -> Finished | None:
    if content["version"] != _VERSION or current_state(folder) is not RunState.COMPLETE:
        return None
    run, place = split_place(folder)
    extent = read_extent(run, place)
    if content["extent"] != extent or wanted not in (None, extent):
        return None
    facts = store.committed(folder, REPORT_FILE, id=content["report"])
    if facts is None or facts["status"] != "COMPLETE":
        return None
    inputs = content["inputs"]
    if inputs is None or any(_fingerprint(Path(place)) != before for place, before in inputs.items()):
        return None
    if any(_stat(run / name) != before for name, before in content["results"].items()):
        return None
    report = dataclasses.replace(from_plain(content["shown"]), folder=folder)
    return Finished(folder=folder, report=report, work=content.get("work"))


def _settings(config: AuditConfig) -> dict[str, Any]:
    """What is no part of a run's identity, yet decides what the same command would write or read."""
    return {
        "report": plain(config.report),
        "data": plain(config.data),
        "source": data_path(config),
        "given": given_paths(config) | config.given.keys,
        "host": platform.node(),
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "code": _package_fingerprint(),
        **({} if config.execution.kernels == "auto" else {"kernels": config.execution.kernels}),
    } | ({"split": plain(config.split), "fnr": config.attack.fnr} if config.split.follows_data else {})


@functools.cache
def _package_fingerprint() -> str:
    return _fingerprint(Path(__file__).parents[1], suffixes=_CODE)


def _result_files(plan: Plan) -> Iterator[str]:
    """Names of all committed files of a run, relative to its folder."""
    from ungan_dist.runs.units import root_of
    from ungan_dist.runs.unlearned_shadows import find_kept_weights

    prepared = plan.originals[0].prepared
    data = prepared.beton.marker if prepared.loader == "ffcv" else prepared.marker
    markers = [(Path(prepared.output), data), (plan.report_folder, MEMBERSHIP_FILE)]
    markers += [(root_of(unit), unit.marker) for unit in (*plan.units, *find_kept_weights(plan.unlearned_shadows))]
    for root, marker in markers:
        for name in (marker, *store.read_marker(root / marker)["files"]):
            yield os.path.relpath(root / name, plan.folder)


def _stat(path: Path) -> list[int]:
    try:
        found = path.stat()
    except FileNotFoundError:  # a broken link counts as itself
        found = path.lstat()
    return [found.st_size, found.st_mtime_ns]


def _fingerprint(place: Path, suffixes: tuple[str, ...] = ("",)) -> str:
    """Return a hash of the names, sizes and times of a file, or of a folder without runs in it, links followed."""
    if not place.is_dir():
        return str(_stat(place))
    lines: list[str] = []
    visited: set[Path] = set()
    for folder, folders, names in os.walk(place, followlinks=True):
        if (real := Path(folder).resolve()) in visited:  # a link that leads back
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not is_output(Path(folder, name))]
        lines += [f"{folder}/{name} {_stat(Path(folder, name))}" for name in names if name.endswith(suffixes)]
    return hash_bytes("\n".join(sorted(lines)).encode())


def _read(path: Path) -> dict[str, Any] | None:
    """Read a record whose own hash fits."""
    try:
        return store.read_record(path)
    except _UNREADABLE:
        return None
