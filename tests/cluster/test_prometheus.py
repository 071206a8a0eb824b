"""Debian's Prometheus with the shipped files: syntax, alerts on made-up series, and a real run on hosts."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboard import DASHBOARD, panels
from monitored_cluster import MonitoredCluster, require_prometheus

FOLDER = DASHBOARD.parent
RULES = FOLDER / "alerts.yaml"
CASES = Path(__file__).with_name("alert_cases.yaml")
PLAIN, IMPATIENT = 9090, 9091
"""Ports of Prometheus with the shipped files, and with alerts that wait for seconds instead of minutes."""


def run_promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    require_prometheus()
    return subprocess.run(["promtool", *words], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", ["prometheus.yaml", "prometheus-kubernetes.yaml"])
def test_promtool_accepts_the_configuration_and_its_rules(name: str, tmp_path: Path) -> None:
    # Debian builds Prometheus without Kubernetes; relabelling is checked in any case
    text = re.sub(
        r"kubernetes_sd_configs:\n +- role: pod", "static_configs: [{targets: [pod]}]", (FOLDER / name).read_text()
    )
    (tmp_path / "alerts.yaml").write_text(RULES.read_text())
    for content, is_right in ((text, True), (text.replace("scrape_configs", "scrape_config"), False)):
        (tmp_path / name).write_text(content)
        done = run_promtool("check", "config", tmp_path / name)
        assert (done.returncode == 0) is is_right, done.stdout + done.stderr
        assert ("5 rules found" in done.stdout) is is_right


def test_every_alert_fires_and_stays_silent_as_its_cases_say(tmp_path: Path) -> None:
    def run_cases(rules: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "alerts.yaml").write_text(rules)
        (tmp_path / CASES.name).write_text(CASES.read_text())
        return run_promtool("test", "rules", tmp_path / CASES.name)

    rules = RULES.read_text()
    done = run_cases(rules)
    assert done.returncode == 0, done.stdout + done.stderr
    # a threshold of each alert, moved: the cases notice
    for old, new in (
        ("> 1800", "> 18000"),
        ("quarantined) > 0", "quarantined) > 3"),
        ("> 10", "> 1000"),
        ("< 0.1", "< 0.001"),
        ("[15m]) unless", "[1m]) unless"),
        ("\n          and on", "\n          or"),
    ):
        assert rules.count(old) == 1, old
        assert run_cases(rules.replace(old, new)).returncode, f"no case fails with {new}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredCluster]:
    require_prometheus()
    with MonitoredCluster(tmp_path_factory.mktemp("monitored")) as started:
        yield started


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_real_run_fills_every_panel_and_its_faults_fire_alerts(cluster: MonitoredCluster, tmp_path: Path) -> None:
    impatient = tmp_path / "prometheus.yaml"
    impatient.write_text(re.sub("15s", "2s", (FOLDER / "prometheus.yaml").read_text()))
    rules = RULES.read_text().replace("> 1800", "> 20").replace("for: 30s", "for: 5s")
    (tmp_path / "alerts.yaml").write_text(re.sub(r"groups:\n  - name: ungan", r"\g<0>\n    interval: 2s", rules))
    cluster.start_prometheus(str(FOLDER / "prometheus.yaml"), PLAIN)
    cluster.start_prometheus(str(impatient), IMPATIENT)

    audit = cluster.start_audit("monitored")
    cluster.wait_for_shadows("monitored", 4, audit)
    time.sleep(35)  # two scrapes, which a rate needs
    empty = [panel["title"] for panel in panels() if not all(ask(cluster, target) for target in panel["targets"])]
    # no GPU on this machine, so Ray exports no metrics of one
    assert empty == [panel["title"] for panel in panels() if panel["title"].startswith("GPU: ")]
    assert not firing(cluster)

    # every worker hangs
    for name in cluster.workers:
        cluster.network[name].run("pkill -STOP -f ray::Worker")
    cluster.wait_for(lambda: "UnganNoProgress" in firing(cluster), "the alert on progress", timeout=120)
    for name in cluster.workers:
        cluster.network[name].run("pkill -CONT -f ray::Worker")
    cluster.wait_for(lambda: "UnganNoProgress" not in firing(cluster), "the end of the alert", timeout=120)

    cluster.network["right"].cut_power()
    cluster.wait_for(lambda: "UnganHostGone" in firing(cluster), "the alert on the host", timeout=180)
    assert firing(cluster)["UnganHostGone"]["ip"] == cluster.network["right"].address
    assert audit.wait(240) == 0, cluster.log_of("monitored").read_text()


def ask(cluster: MonitoredCluster, target: dict[str, Any]) -> list[dict[str, Any]]:
    """Run a panel's query as Grafana does with all sessions chosen."""
    return cluster.query(target["expr"].replace("$session", ".*"), PLAIN)


def firing(cluster: MonitoredCluster) -> dict[str, dict[str, str]]:
    """Return the labels of the alerts that fire, by name."""
    series = cluster.query('ALERTS{alertstate="firing"}', IMPATIENT)
    return {one["metric"]["alertname"]: one["metric"] for one in series}
