"""Run an audit under each fault of hosts and network, and record what it did.

    python benchmarks/network_faults.py [FAULT…]     write benchmarks/results/network_faults.json

Hosts are namespaces of this machine, so this needs root and Linux: see tests/helpers/hosts.py. About a minute a fault.
A fault after which the audit does not continue is recorded, and the next one begins on a cluster that is started anew.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import pytest
from harness import ROOT, write


def main(names: list[str]) -> None:
    """Run the faults, all by default, and write the results file after each."""
    sys.path.append(str(ROOT / "tests/helpers"))
    from faulty_audit import as_row, run_under
    from host_cluster import HEALTH, HostCluster
    from host_faults import FAULTS

    if unknown := [name for name in names if name not in FAULTS]:
        raise SystemExit(f"unknown: {', '.join(unknown)}. Known: {'; '.join(FAULTS)}")
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder, HostCluster(Path(folder)) as cluster:
        begun = time.monotonic()
        audit = cluster.start_audit("undisturbed")
        if audit.wait(600):
            raise SystemExit(cluster.log_of("undisturbed").read_text())
        undisturbed = cluster.list_results("undisturbed")
        undisturbed_s = round(time.monotonic() - begun, 1)
        for fault in names or FAULTS:
            load = os.getloadavg()[0]
            try:
                row = as_row(run_under(cluster, fault, undisturbed, timeout=600))
            except AssertionError as error:
                row = {"fault": fault, "failed": str(error)[-2000:]}
                cluster.boot()
            except pytest.skip.Exception as reason:
                row = {"fault": fault, "skipped": str(reason)}
            rows.append(row | {"load": [round(load, 1), round(os.getloadavg()[0], 1)]})
            print(rows[-1], flush=True)
            write("network_faults", rows, ray_settings=HEALTH, undisturbed_s=undisturbed_s)


if __name__ == "__main__":
    main(sys.argv[1:])
