"""Debian's Prometheus with the shipped files: syntax, alerts on made-up series, and a real run on hosts."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from dashboard import DASHBOARD
from monitored_cluster import RULES, MonitoredCluster, require_prometheus
from monitored_faults import watch_audit
from ray_head import free_ports

FOLDER = DASHBOARD.parent
CASES = Path(__file__).with_name("alert_cases.yaml")


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
        assert ("6 rules found" in done.stdout) is is_right


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
        ("size_bytes) < 0.1", "size_bytes) < 0.001"),
        ("usage) < 0.1", "usage) < 0.001"),
        ("[15m]) unless", "[1m]) unless"),
        ("\n          and on", "\n          or"),
    ):
        assert rules.count(old) == 1, old
        assert run_cases(rules.replace(old, new)).returncode, f"no case fails with {new}"


def test_prometheus_soon_scrapes_a_host_that_joins(tmp_path: Path) -> None:
    # Ray replaces a file to which the one of the configuration is a symbolic link
    def list_hosts(*ports: int) -> None:
        (session / "new").write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in ports]}]))
        (session / "new").rename(session / "targets.json")

    def scraped() -> list[str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server}/api/v1/targets", timeout=5) as answer:
                return sorted(one["labels"]["instance"] for one in json.load(answer)["data"]["activeTargets"])
        except OSError:
            return []

    def wait_for(*ports: int) -> None:
        deadline = time.monotonic() + 60
        while scraped() != [f"127.0.0.1:{port}" for port in ports]:
            assert time.monotonic() < deadline, scraped()
            time.sleep(0.2)

    require_prometheus()
    session = tmp_path / "ray/session"
    session.mkdir(parents=True)
    listed = tmp_path / "ray/targets.json"
    listed.symlink_to("session/targets.json")
    text = (FOLDER / "prometheus.yaml").read_text()
    assert text.count("15s") == 3
    text = text.replace("/tmp/ray/prom_metrics_service_discovery.json", str(listed))
    (tmp_path / "prometheus.yaml").write_text(text.replace("15s", "1s").replace("rule_files: [alerts.yaml]", ""))
    (server,) = free_ports(1)
    list_hosts(1)
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/series"]
    with (tmp_path / "log").open("w") as log:
        started = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{server}"], stderr=log)
    try:
        wait_for(1)
        list_hosts(1, 2)
        wait_for(1, 2)
    finally:
        started.kill()
        started.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredCluster]:
    require_prometheus()
    with MonitoredCluster(tmp_path_factory.mktemp("monitored")) as started:
        yield started


@pytest.mark.chaos
@pytest.mark.timeout(2400)
def test_a_real_run_fills_every_panel_and_its_faults_fire_alerts(cluster: MonitoredCluster) -> None:
    watched = watch_audit(cluster)
    assert [panel for panel in watched.panels if not panel.is_of_gpus and not all(panel.num_series)] == []
    assert watched.false_alerts == []
    assert {alert.name for alert in watched.alerts} == set(re.findall(r"alert: (\w+)", RULES.read_text()))
    addresses = {alert.name: alert.ip for alert in watched.alerts if alert.ip}
    network = cluster.network
    assert addresses == {"UnganDiskNearlyFull": network["left"].address, "UnganHostGone": network["right"].address}
    assert watched.exit_codes == [3, 0]
