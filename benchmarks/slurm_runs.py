"""Run the shipped batch file under a real Slurm in each situation, and keep Slurm's own records of the jobs.

The nodes are namespaces of this machine, so this needs root, Linux and Slurm (make services): see
tests/helpers/slurm_hosts.py. One to four minutes a situation.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import RESULTS, ROOT, describe_commit, write

from ungan_dist import store


def main(words: list[str]) -> None:
    """Run the situations, all by default, and write the results file after each."""
    sys.path.append(str(ROOT / "tests/helpers"))
    from slurm_audits import NODES, SITUATIONS, run_locally, run_situation
    from slurm_hosts import SlurmCluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="a part of a situation's name; all by default")
    words = parser.parse_args(words).words
    chosen = [name for name in SITUATIONS if not words or any(word in name for word in words)]
    if not chosen:
        parser.error("\n  ".join(["no situation has such a name. There are:", *SITUATIONS]))
    path = RESULTS / "slurm.json"
    rows = {row["situation"]: row for row in store.read_json(path)["rows"]} if words and path.exists() else {}
    slurm = subprocess.run(["slurmd", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder, SlurmCluster(Path(folder), NODES) as cluster:
        undisturbed = run_locally(cluster)
        for name in chosen:
            try:
                outcome = run_situation(cluster, name, undisturbed)
            except AssertionError as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                failed.append(name)
                rows.pop(name, None)  # of an earlier run
                write("slurm", [rows[name] for name in SITUATIONS if name in rows], slurm=slurm)
                cluster.clean_up()
                continue
            print(outcome, flush=True)
            rows[name] = {**dataclasses.asdict(outcome), "commit": describe_commit()}
            write("slurm", [rows[name] for name in SITUATIONS if name in rows], slurm=slurm)
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
