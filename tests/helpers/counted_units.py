"""What the runs of one command counted, from their JSON lines: no unit twice, and none lost between two runs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Life:
    """What one run of the command counted, from its JSON lines."""

    done: Counter[str]
    """Stage and title of a unit → how often it was counted."""
    failed: list[str]
    excesses: list[str]
    """Counts above their total."""
    found: int | None
    """Models that its plan found done; None if it ended before."""
    added: int
    """Models in the units that it counted."""


def read_life(lines: Iterable[str]) -> Life:
    """Read the JSON lines of one run; the last one may be cut, and other lines are skipped."""
    done: Counter[str] = Counter()
    failed: list[str] = []
    excesses: list[str] = []
    found: int | None = None
    added = 0
    for line in lines:
        try:
            event: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if event.get("stage") == "plan" and (planned := re.search(r", ([\d,]+) done;", event["note"])):
            found = int(planned[1].replace(",", ""))
        # a unit has a kind, and progress within it counts no unit
        if not event.get("total") or event["within"] or not event["kind"]:
            continue
        if event["done"] > event["total"]:
            excesses.append(f"{event['stage']} counted {event['done']} of {event['total']}")
        if event["note"].startswith(("failed: ", "diverged: ")):
            failed.append(event["note"])
        else:
            done[f"{event['stage']}: {event['note']}"] += 1
            numbers = re.search(r"(\d+)–(\d+)$", event["note"])
            added += int(numbers[2]) - int(numbers[1]) + 1 if numbers else 1
    return Life(done=done, failed=failed, excesses=excesses, found=found, added=added)


def find_miscounts(lives: Iterable[Life]) -> list[str]:
    """Describe each unit that was counted twice, also in two runs of the command, and each count above its total.

    A committed result that was lost would be computed, and so counted, again; or the plan of the next run of the
    command would find fewer models than the last had reached.
    """
    counts: Counter[str] = Counter()
    found: list[str] = []
    reached = 0
    for life in lives:
        counts += life.done
        found += life.excesses
        if life.found is not None and life.found < reached:
            found.append(f"{reached} models were done, and the next run of the command found {life.found}")
        reached = (reached if life.found is None else life.found) + life.added
    return found + [f"{title} was counted {count} times" for title, count in counts.items() if count > 1]
