"""The Grafana dashboard, and the metrics that its panels ask for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[2] / "cluster/manifests/monitoring/grafana-dashboard.json"


def panels() -> list[dict[str, Any]]:
    """All panels that show something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def metrics_of(panel: dict[str, Any]) -> set[str]:
    """The metrics of a panel's expressions: words before a selector, which is what no function or label is."""
    expressions = " ".join(target["expr"] for target in panel["targets"])
    return set(re.findall(r"\b([a-z_:][a-zA-Z0-9_:]*)\{", expressions))
