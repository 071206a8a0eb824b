"""Judge a table of version 1 by today's rules of power and utility. Its figures and intervals stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ungan_dist.attack.evidence import Interval, Row, Verdict
from ungan_dist.attack.intervals import student_t_interval
from ungan_dist.attack.utility import SETS
from ungan_dist.attack.verdicts import judge_rows
from ungan_dist.config.attack import AttackConfig

NUM_CLASSES = 10
"""Of digits and CIFAR-10, the data of all published tables of version 1."""


def judge_again(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a table with verdicts that need power and utility; one of today's is returned unchanged."""
    if run["schema_version"] > 1:
        return run
    accuracy = {row["method"]: row["accuracy"] for row in run["rows"]}
    rows = [_to_row(row, accuracy) for row in run["rows"]]
    attack = AttackConfig(delta=run["delta"])
    judged = judge_rows(rows, attack, num_classes=NUM_CLASSES, sizes=run["sizes"])
    return {**run, "rows": [asdict(row) for row in judged]}


def _to_row(row: Mapping[str, Any], accuracy: Mapping[str, Any]) -> Row:
    loss: dict[str, Interval] = {}
    if row["method"] not in ("original", "retrain"):
        for name in SETS:
            there, here = (accuracy[method][name]["per_seed"] for method in ("retrain", row["method"]))
            loss[name] = student_t_interval([a - b for a, b in zip(there, here, strict=True)], 0.90)
    verdict = row["verdict"]
    return Row(
        method=row["method"],
        title=row["title"],
        accuracy={name: Interval(**cell) for name, cell in row["accuracy"].items()},
        tnr_at_fnr=_to_cells(row["tnr_at_fnr"]),
        achieved_fnr=row["achieved_fnr"],
        auc=Interval(**row["auc"]),
        tpr_at_fpr=_to_cells(row["tpr_at_fpr"]),
        tpr_at_fpr_flipped=_to_cells(row["tpr_at_fpr_flipped"]),
        verdict=Verdict(**{**verdict, "gap": verdict["gap"] and Interval(**verdict["gap"])}),
        loss=loss,
    )


def _to_cells(cells: Mapping[str, Any]) -> dict[str, Interval | str]:
    return {rate: cell if isinstance(cell, str) else Interval(**cell) for rate, cell in cells.items()}
