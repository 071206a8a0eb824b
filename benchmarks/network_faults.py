"""Run an audit under each fault of hosts, network and object storage, and record what it did.

Hosts are namespaces of this machine, so this needs root and Linux: see tests/helpers/hosts.py. With ``--storage`` they
share no disk, and the output is in S3 storage (moto) on a host of its own. About a minute a fault. Rows of other
faults are kept. A fault after which the audit does not continue is recorded, and the next one begins on a cluster that
is started anew.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from harness import RESULTS, ROOT, describe_commit, write

from ungan_dist import store

sys.path.append(str(ROOT / "tests/helpers"))

from faulty_audit import as_row, run_under
from host_cluster import HEALTH, HostCluster
from host_faults import FAULTS, Inject
from stored_audit import STORAGE_FAULTS, StoredCluster


def main(words: list[str]) -> None:
    """Run the faults, all by default, and write the results file after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", action="store_true", help="write storage_faults.json in place of network_faults")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="names of rows; all by default")
    asked = parser.parse_args(words)
    is_stored, names = asked.storage, asked.faults
    name, faults = ("storage_faults", STORAGE_FAULTS) if is_stored else ("network_faults", FAULTS)
    if unknown := [one for one in names if one not in faults]:
        parser.error("\n  ".join([f"unknown: {', '.join(unknown)}. Known:", *faults]))
    path = RESULTS / f"{name}.json"
    rows = {row["fault"]: row for row in store.read_json(path)["rows"]} if names and path.exists() else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        (StoredCluster if is_stored else HostCluster)(Path(folder)) as cluster,
    ):
        begun = time.monotonic()
        if cluster.start_audit("undisturbed").wait(600):
            raise SystemExit(cluster.log_of("undisturbed").read_text())
        undisturbed_s = round(time.monotonic() - begun, 1)
        undisturbed = cluster.list_results("undisturbed")
        for fault in names or faults:
            measured = {"commit": describe_commit(), "undisturbed_s": undisturbed_s}
            rows[fault] = _run(cluster, fault, faults, undisturbed) | measured
            print(rows[fault], flush=True)
            found = [rows[one] for one in faults if one in rows]
            write(name, found, ray_settings=HEALTH)


def _run(
    cluster: HostCluster, fault: str, faults: dict[str, Inject], undisturbed: dict[str, bytes]
) -> dict[str, object]:
    """Run the audit under one fault, and return its row."""
    load = os.getloadavg()[0]
    try:
        row = as_row(run_under(cluster, fault, undisturbed, faults=faults, timeout=600))
    except (AssertionError, subprocess.TimeoutExpired) as error:
        row = {"fault": fault, "failed": str(error)[-2000:]}
        cluster.boot()
    except pytest.skip.Exception as reason:
        row = {"fault": fault, "skipped": str(reason)}
    return row | {"load": [round(load, 1), round(os.getloadavg()[0], 1)]}


if __name__ == "__main__":
    main(sys.argv[1:])
