"""The dashboard and the scrape configurations, without a cluster."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard import DASHBOARD, metrics_of, panels

FOLDER = DASHBOARD.parent
METRICS = Path(__file__).parents[2] / "cluster/metrics.py"


def test_every_panel_has_a_query_and_a_description() -> None:
    found = panels()
    assert len(found) >= 12
    for panel in found:
        assert panel["description"].endswith(".")
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
            # every metric has Ray's prefix and is limited to the chosen session
            assert metrics_of({"targets": [target]})
            assert set(re.findall(r"\{([^}]*)\}", target["expr"])) == {'SessionName=~"$session"'}
        assert all(name.startswith("ray_") for name in metrics_of(panel))


def test_panels_have_unique_ids_and_do_not_overlap() -> None:
    content = json.loads(DASHBOARD.read_text())
    assert len({panel["id"] for panel in content["panels"]}) == len(content["panels"])
    boxes = [panel["gridPos"] for panel in content["panels"]]
    for a, b in itertools.combinations(boxes, 2):
        side_by_side = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert side_by_side or above
    assert all(box["x"] + box["w"] <= 24 for box in boxes)
    assert {variable["name"] for variable in content["templating"]["list"]} == {"datasource", "session"}


def test_every_metric_of_a_fleet_is_shown() -> None:
    exported = set(re.findall(r'"(ungan_\w+)"', METRICS.read_text()))
    shown = set().union(*(metrics_of(panel) for panel in panels()))
    stems = {re.sub("^ray_|_(total|bucket|sum|count)$", "", name) for name in shown}
    assert exported <= stems, exported - stems
    assert {name for name in stems if name.startswith("ungan_")} <= exported


def find_faults(config: dict[str, Any]) -> list[str]:
    """List faults that Prometheus would refuse: unknown keys, jobs without targets, invalid patterns."""
    found = [f"unknown {key}" for key in set(config) - {"global", "rule_files", "scrape_configs"}]
    found += [f"unknown {key}" for key in set(config.get("global", {})) - {"scrape_interval", "evaluation_interval"}]
    for job in config["scrape_configs"]:
        found += [f"unknown {key}" for key in set(job) - {
            "job_name", "file_sd_configs", "kubernetes_sd_configs", "static_configs", "relabel_configs"
        }]  # fmt: skip
        if not any(key.endswith("_sd_configs") or key == "static_configs" for key in job):
            found.append("no targets")
        for rule in job.get("relabel_configs", ()):
            known = {"source_labels", "regex", "action", "replacement", "target_label"}
            found += [f"unknown {key}" for key in set(rule) - known]
            re.compile(rule.get("regex", ""))
            if rule.get("action", "replace") == "replace" and "target_label" not in rule:
                found.append("no target label")
    return found


@pytest.mark.parametrize("name", ["prometheus.yaml", "prometheus-kubernetes.yaml"])
def test_a_scrape_configuration_has_no_faults(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert find_faults(yaml.safe_load(text)) == []
    assert find_faults(yaml.safe_load(text.replace("scrape_interval", "scrape_intervall"))) == [
        "unknown scrape_intervall"
    ]
    assert "no targets" in find_faults(yaml.safe_load(re.sub("[a-z]+_sd_configs", "sd", text)))


def test_prometheus_reads_the_file_that_ray_writes() -> None:
    from ray._private import ray_constants

    (job,) = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    (path,) = job["file_sd_configs"][0]["files"]
    assert path == f"/tmp/ray/{ray_constants.PROMETHEUS_SERVICE_DISCOVERY_FILE}"
