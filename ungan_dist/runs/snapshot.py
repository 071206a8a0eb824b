"""Save and restore the part of a report that a terminal shows, without rounding."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ungan_dist.attack.evidence import Report


def to_plain(report: Report) -> dict[str, Any]:
    """Return the shown part of a complete report as plain data."""
    return {
        "title": report.title,
        "recipe": report.recipe,
        "run_hash": report.run_hash,
        "sizes": report.sizes,
        "config": report.config,
        "notes": report.notes,
        "smallest_delta": report.smallest_delta,
        "remedies": dataclasses.asdict(report.remedies),
        **({} if report.normality is None else {"normality": dataclasses.asdict(report.normality)}),
        **({"copies": report.copies, "copied": list(report.copied)} if report.copies else {}),
        **({"stopping": dataclasses.asdict(report.stopping)} if report.stopping else {}),
        **({"earlier": [dataclasses.asdict(one) for one in report.earlier]} if report.earlier else {}),
        "rows": [dataclasses.asdict(row) for row in report.rows],
        "seconds": [[item.method, item.seed, item.unlearning_seconds] for item in report.evidence],
    }


def from_plain(shown: dict[str, Any]) -> Report:
    """Restore a report that holds enough for the terminal; everything else in it is empty.

    Raises:
        KeyError: an earlier version saved less of it.
    """
    import numpy as np

    from ungan_dist.attack.estimates import KLOM, EarlierRequest, EarlierRow, Relearning
    from ungan_dist.attack.evidence import (
        AttackResult,
        Deviation,
        Evidence,
        Interval,
        Normality,
        Remedies,
        Report,
        Row,
        StageSplit,
        ULiRA,
        Verdict,
    )
    from ungan_dist.attack.looks import Look, Stopping

    def cell(value: Any) -> Any:
        return Interval(**value) if isinstance(value, dict) else value

    def cells(values: dict[str, Any]) -> dict[str, Any]:
        return {name: cell(value) for name, value in values.items()}

    def split(values: dict[str, Any]) -> StageSplit:
        stages = {name: Deviation(**found) for name, found in values.items() if isinstance(found, dict)}
        return StageSplit(**{**values, **stages})

    def row(values: dict[str, Any]) -> Row:
        verdict = Verdict(**{**values["verdict"], "gap": cell(values["verdict"]["gap"])})
        families = ("accuracy", "tnr_at_fnr", "tpr_at_fpr", "tpr_at_fpr_flipped", "loss")
        fields = {name: cells(values[name]) for name in families}
        ulira = values.get("ulira")
        if isinstance(ulira, dict):
            measured = {"auc": cell(ulira["auc"]), "tpr_at_fpr": cells(ulira["tpr_at_fpr"])}
            ulira = ULiRA(**{**ulira, **measured})
        relearning = values.get("relearning")
        if relearning is not None:
            relearning = Relearning(**{**relearning, "gap": cell(relearning["gap"])})
        klom = values.get("klom")
        klom = KLOM(**klom) if isinstance(klom, dict) else klom
        attacks = {name: AttackResult(**cells(found)) for name, found in values.get("attacks", {}).items()}
        stages = {name: split(found) for name, found in values.get("stages", {}).items()}
        parts = {"auc": cell(values["auc"]), "verdict": verdict, "attacks": attacks, "ulira": ulira, "stages": stages}
        return Row(**{**values, **fields, **parts, "relearning": relearning, "klom": klom})

    def evidence(method: str, seed: int, seconds: float) -> Evidence:
        none, table = np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.float32)
        return Evidence(
            method=method,
            seed=seed,
            accuracy={},
            log_odds=table,
            log_odds_unseen=table,
            scores=np.zeros(0),
            retain=none,
            forget=none,
            non_members=none,
            curves={},
            unlearning_seconds=seconds,
        )

    def stopping(values: dict[str, Any] | None) -> Stopping | None:
        return None if values is None else Stopping(**{**values, "looks": [Look(**look) for look in values["looks"]]})

    def earlier(values: dict[str, Any]) -> EarlierRequest:
        measured = ("auc", "gap", "change")
        rows = [EarlierRow(**{**one, **{name: cell(one[name]) for name in measured}}) for one in values["rows"]]
        return EarlierRequest(**{**values, "rows": rows})

    return Report(
        title=shown["title"],
        recipe=shown["recipe"],
        run_hash=shown["run_hash"],
        config=shown["config"],
        resolved={},
        versions={},
        sizes=shown["sizes"],
        notes=shown["notes"],
        smallest_delta=shown["smallest_delta"],
        remedies=Remedies(**shown["remedies"]),
        normality=Normality(**shown["normality"]) if "normality" in shown else None,
        copies=shown.get("copies", ""),
        copied=tuple(shown.get("copied", ())),
        rows=[row(values) for values in shown["rows"]],
        earlier=[earlier(values) for values in shown.get("earlier", [])],
        stopping=stopping(shown.get("stopping")),
        evidence=[evidence(*timed) for timed in shown["seconds"]],
        shadow_quality={},
        status="COMPLETE",
    )
