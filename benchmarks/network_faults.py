"""Run an audit under each fault of hosts and network, and record what it did.

    python benchmarks/network_faults.py [FAULT…]     write benchmarks/results/network_faults.json

Hosts are namespaces of this machine, so this needs root and Linux: see tests/helpers/hosts.py. About a minute a fault.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

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
        audit = cluster.start_audit("undisturbed")
        if audit.wait(300):
            raise SystemExit(cluster.log_of("undisturbed").read_text())
        undisturbed = cluster.list_results("undisturbed")
        for fault in names or FAULTS:
            outcome = run_under(cluster, fault, undisturbed)
            print(outcome, flush=True)
            rows.append(as_row(outcome))
            write("network_faults", rows, ray_settings=HEALTH)


if __name__ == "__main__":
    main(sys.argv[1:])
