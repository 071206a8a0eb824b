"""Track one run: each curve once, whatever interrupted the run, and never at the cost of the audit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ungan_dist import store
from ungan_dist.attack.evidence import Evidence, Report
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.identity import identity
from ungan_dist.files import hash_json
from ungan_dist.report.redact import remove_examples
from ungan_dist.runs import progress
from ungan_dist.runs.targets import TargetUnit
from ungan_dist.runs.units import Unit, read_facts
from ungan_dist.runs.views import split_place
from ungan_dist.tracking.tracker import Tracker

TRACKING_FILE = "tracking.json"
"""In the run folder: what each tracker has received. A purge removes it."""
_FILES = ("report.html", "table.md", "table.json")


class Session:
    """Sends what a run finds to a tracker, and keeps in the run folder what was sent."""

    def __init__(self, tracker: Tracker, config: AuditConfig, on_progress: progress.ProgressCallback) -> None:
        self._tracker, self._config, self._on_progress = tracker, config, on_progress
        self._folder: Path | None = None
        self._sent: dict[str, Any] = {}
        self._has_failed = False

    def log_unit(self, unit: Unit) -> None:
        """Log the curves of a target that was just computed."""
        if isinstance(unit, TargetUnit) and (facts := read_facts(unit)) is not None:
            self._guard(lambda: self._log_curves(Path(unit.run), _name(unit), facts["curves"]))

    def log_report(self, report: Report) -> None:
        """Log the curves that were not logged yet, and the report if it has changed."""
        self._guard(lambda: self._log_report(report))

    def finish(self) -> None:
        """End the tracker's part, if it has begun."""
        if self._folder is not None:
            self._guard(self._tracker.finish)

    def _guard(self, action: Callable[[], None]) -> None:
        """Call the tracker; after an error warn, and do not call it again."""
        if self._has_failed:
            return
        try:
            action()
        except Exception as error:  # any error of a tracker is less than an audit of hours
            self._has_failed = True
            note = (
                f"{self._tracker.name} failed and is not called again by this command ({error!r}). The audit goes on, "
                f"and the same command logs later what is absent"
            )
            self._on_progress(progress.remark("tracking", note, is_warning=True))

    def _load(self, folder: Path) -> dict[str, Any]:
        """Read what the tracker has received, once."""
        if not self._sent:
            self._sent = {"state": "", "curves": [], "reports": {}} | _read(folder).get(self._tracker.name, {})
        return self._sent

    def _open(self, folder: Path) -> None:
        """Begin with the tracker, once there is something to send."""
        if self._folder is not None:
            return
        self._sent["state"] = self._tracker.start(folder, identity(self._config), self._sent["state"])
        self._folder = folder
        self._save()

    def _save(self) -> None:
        assert self._folder is not None
        store.write_record(self._folder / TRACKING_FILE, _read(self._folder) | {self._tracker.name: self._sent})

    def _log_curves(self, folder: Path, model: str, curves: dict[str, list[float]]) -> None:
        for loss, values in curves.items():
            name = f"{model}/{loss}"
            if name not in self._load(folder)["curves"]:
                self._open(folder)
                self._tracker.log_curve(name, values)
                self._sent["curves"].append(name)
                self._save()

    def _log_report(self, report: Report) -> None:
        assert report.folder is not None
        folder, place = split_place(report.folder)
        for item in report.evidence:
            self._log_curves(folder, _name(item), item.curves)
        numbers, texts = collect_numbers(report), {f"verdict/{row.method}": row.verdict.outcome for row in report.rows}
        content_hash, before = hash_json([numbers, texts]), self._load(folder)["reports"].get(place, [])
        if before[-1:] == [content_hash]:
            return
        self._open(folder)
        prefix = f"{place}/" if place else ""
        self._tracker.log_numbers({f"{prefix}{name}": value for name, value in numbers.items()}, len(before))
        self._tracker.log_texts({f"{prefix}{name}": text for name, text in texts.items()})
        files = {name: (report.folder / name).read_bytes() for name in _FILES}
        files["report.html"] = remove_examples(files["report.html"].decode()).encode()
        self._tracker.log_report(files)
        self._sent["reports"][place] = [*before, content_hash]
        self._save()


def _name(model: TargetUnit | Evidence) -> str:
    further = f" unlearning {model.unlearning}" if model.unlearning else ""
    return f"{model.method}/seed {model.seed}{further}"


def collect_numbers(report: Report) -> dict[str, float]:
    """Collect the AUC of each attack, LiRA's gap with its bounds, and the accuracies, by ``NUMBER/METHOD``."""
    found: dict[str, float] = {}
    for row in report.rows:
        numbers: dict[str, float] = {"auc": row.auc.mean}
        numbers |= {f"auc_{name}": one.auc.mean for name, one in row.attacks.items() if name != "lira"}
        if (gap := row.verdict.gap) is not None:
            numbers |= {"gap": gap.mean, "gap_low": gap.low, "gap_high": gap.high}
        numbers |= {f"accuracy_{name}": interval.mean for name, interval in row.accuracy.items()}
        found |= {f"{name}/{row.method}": value for name, value in numbers.items()}
    return found


def _read(folder: Path) -> dict[str, Any]:
    try:
        return store.read_record(folder / TRACKING_FILE)
    except FileNotFoundError:
        return {}
