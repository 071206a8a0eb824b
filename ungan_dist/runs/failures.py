"""Failures that a rerun would repeat: recorded in the run folder, so that the same command does not repeat them.

A record is kept as ``failures/NAME.json`` with the unit's id, beside its traceback ``failures/NAME.txt``. It holds
until versions or the user's code change, or ``--execution.retry-failed`` asks for another attempt.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.files import hash_bytes
from ungan_dist.runs.shadows import ShadowUnit
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import Failed, Unit, is_done
from ungan_dist.runs.unlearned_shadows import UnlearnedShadowUnit
from ungan_dist.runs.versions import versions


def failure_marker(unit: Unit) -> str:
    """Return the name of a unit's failure record, relative to the run folder."""
    if isinstance(unit, ShadowUnit):
        name = f"shadows-{unit.id[:16]}"
    elif isinstance(unit, UnlearnedShadowUnit):
        name = f"{unit.seed}-{unit.method}-shadows-{unit.shadows[0]}"
    else:
        name = f"{unit.seed}-{unit.name}"
    return f"failures/{name}.json"


def traceback_file(unit: Unit) -> str:
    """Return the name of the file with a failure's traceback, relative to the run folder."""
    return failure_marker(unit).removesuffix(".json") + ".txt"


def write_failure(folder: Path, failure: Failed) -> None:
    """Write the traceback of a failure, and record the failure if a rerun would repeat it."""
    if not failure.is_final:
        if failure.traceback:
            store.write_file(folder / traceback_file(failure.unit), failure.traceback.encode())
        return
    store.commit(
        folder,
        failure_marker(failure.unit),
        id=failure.unit.id,
        files={traceback_file(failure.unit): (failure.traceback or failure.error).encode()},
        facts={
            "kind": failure.kind,
            "error": failure.error,
            "title": failure.unit.title,
            **_circumstances(failure.unit),
        },
    )


def read_failure(folder: Path, unit: Unit) -> Failed | None:
    """Return the recorded failure of a unit, or ``None``."""
    facts = store.committed(folder, failure_marker(unit), id=unit.id)
    return None if facts is None else Failed(unit=unit, error=facts["error"], kind=facts["kind"])


def remove_failure(folder: Path, unit: Unit) -> None:
    """Remove a unit's failure record, before another attempt and after a success."""
    for name in (failure_marker(unit), traceback_file(unit)):
        (folder / name).unlink(missing_ok=True)


def is_outdated(folder: Path, unit: Unit) -> bool:
    """Return whether versions or the user's code changed since a failure was recorded."""
    facts = store.committed(folder, failure_marker(unit), id=unit.id)
    return facts is not None and any(facts.get(name) != value for name, value in _circumstances(unit).items())


def sort_out_absent(folder: Path, units: Iterable[Unit]) -> tuple[list[Failed], list[Unit]]:
    """Divide the units without a result into those that fail every time and those that a run would compute.

    Returns:
        The recorded failures, and the other units without a result. Units that need one that fails are in neither.
    """
    absent = [unit for unit in units if not is_done(unit)]
    failures = [failure for unit in absent if (failure := read_failure(folder, unit)) is not None]
    failed = {failure.unit.id for failure in failures}
    return failures, [unit for unit in absent if unit.id not in failed and failed.isdisjoint(_list_needed(unit))]


def _list_needed(unit: Unit) -> list[str]:
    """List the ids of the units without which a unit is not computed."""
    if isinstance(unit, UnlearnedShadowUnit):
        return [unit.target.original_id, unit.target.id, unit.shadow.id]
    return [unit.original_id] if isinstance(unit, TargetUnit) else []


def describe(failures: Sequence[Failed], folder: Path) -> str:
    """Describe failures in one sentence: the first one, the number of others, and the file of the traceback."""
    first, *others = failures
    more = f" (and {len(others)} more)" if others else ""
    return f"{first.unit.title}{more}: {first.error.rstrip('.')}. Traceback: {folder / traceback_file(first.unit)}"


def _circumstances(unit: Unit) -> dict[str, Any]:
    """What may turn a failure into a success without a change of the unit's id."""
    factory = (unit.target if isinstance(unit, UnlearnedShadowUnit) else unit).model.factory
    return {"versions": versions(), "code": None if factory is None else _hash_code(factory)}


def _hash_code(factory: str) -> str:
    """Hash the user's source files: the factory's package, or its file and the imported ones beside it."""
    top = sys.modules.get(factory.partition(":")[0].partition(".")[0])
    file = getattr(top, "__file__", None)
    if file is None:
        return ""
    place = Path(file).parent
    if hasattr(top, "__path__"):
        files = set(place.rglob("*.py"))
    else:
        loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        files = {Path(name) for name in loaded if name and Path(name).parent == place}
    return hash_bytes(b"\0".join(path.read_bytes() for path in sorted(files) if path.is_file()))
