"""The Grafana dashboard and the metrics that its panels query."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[2] / "cluster/manifests/monitoring/grafana-dashboard.json"


def panels() -> list[dict[str, Any]]:
    """List all panels with a query."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def metrics_of(panel: dict[str, Any]) -> set[str]:
    """List the metrics of a panel's expressions, which are the words before a selector."""
    expressions = " ".join(target["expr"] for target in panel["targets"])
    return set(re.findall(r"\b([a-z_:][a-zA-Z0-9_:]*)\{", expressions))
