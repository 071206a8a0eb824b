"""Watch a real audit with Debian's Prometheus by the shipped files, inject faults, and record panels and alerts.

    python benchmarks/monitoring.py [PICTURE]     write benchmarks/results/monitoring.json

PICTURE is a file for Prometheus' graph page, as Debian's Chromium draws it. Hosts are namespaces of this machine, so
this needs root, Linux and Prometheus (make services). About ten minutes.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from harness import ROOT, write

EXPRESSIONS = ("sum(ray_ungan_models_done_total)", "max(ray_ungan_seconds_without_progress)", "sum(ray_ungan_retries)")


def main() -> None:
    """Watch an audit, and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, metavar="PICTURE", help="file for Prometheus' graph page")
    picture = parser.parse_args().picture
    sys.path.append(str(ROOT / "tests/helpers"))
    from host_cluster import HEAD
    from monitored_cluster import SERVER, SILENCE_SECONDS, MonitoredCluster
    from monitored_faults import watch_audit

    version = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, MonitoredCluster(Path(folder)) as cluster:

        def take_picture() -> None:
            graphs = {
                f"g{number}.{name}": value
                for number, expression in enumerate(EXPRESSIONS)
                for name, value in (("expr", expression), ("tab", 0), ("range_input", "15m"))
            }
            page = f"http://127.0.0.1:{SERVER}/graph?{urlencode(graphs)}"
            cluster.network[HEAD].run(
                "chromium --headless --no-sandbox --disable-gpu --window-size=1100,2300 --virtual-time-budget=20000 "
                f"--screenshot={shlex.quote(str(picture.resolve()))} {shlex.quote(page)}"
            )

        watched = watch_audit(cluster, *([take_picture] if picture else []))
    rows = [dataclasses.asdict(alert) for alert in watched.alerts]
    write(
        "monitoring",
        rows,
        panels=[dataclasses.asdict(panel) for panel in watched.panels],
        seconds_to_data=watched.seconds_to_data,
        false_alerts=watched.false_alerts,
        exit_codes=watched.exit_codes,
        prometheus=version,
        silence_s=SILENCE_SECONDS,
        load=[round(load, 1), round(os.getloadavg()[0], 1)],
    )


if __name__ == "__main__":
    main()
