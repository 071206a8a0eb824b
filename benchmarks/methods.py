"""Time every method of unlearning on the digits: T_U, of several seeds, one unit at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import value_row

from ungan_dist import store
from ungan_dist.config.methods import ROWS
from ungan_dist.config.recipes import digits
from ungan_dist.runs.pipeline import audit


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Unlearn by every method, in a quick audit."""
    names = ("original", "retrain", "ungan") if quick else tuple(name for name in ROWS if name != "unlearned")
    with tempfile.TemporaryDirectory() as folder:
        # like every run, in worker processes with one thread
        audit(
            digits(
                output=folder,
                methods=names,
                num_seeds=1 if quick else 2,
                train={"epochs": 2 if quick else 50},
                attack={"quick": True},
                execution={"num_processes": 1, "progress": "none"},
            )
        )
        (path,) = Path(folder).glob("*/timings.json")
        seconds = {name: row["mean"] for name, row in store.read_json(path)["methods"].items()}
    for name in names:
        if name != "original":
            yield value_row(
                ROWS[name].title,
                T_U_s=round(seconds[name], 3),
                part_of_Retrain=round(seconds[name] / seconds["retrain"], 3),
            )
