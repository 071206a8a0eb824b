"""Compare ``ungan-dist plan`` with the run that it estimates: ``python benchmarks/forecast.py RECIPE [OPTIONS]``.

Needs an idle machine and the full time of the run. Prints the estimate, the real wall time and their ratio as JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time


def main() -> None:
    """Plan a run, execute it, and print both times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="digits", metavar="RECIPE", help="defaults to digits")
    asked, options = parser.parse_known_args()
    arguments = [asked.recipe, *options]
    with tempfile.TemporaryDirectory() as output:
        options = [*arguments, "--output", output]
        planned = json.loads(_execute("plan", *options, "--json"))
        start = time.perf_counter()
        _execute("run", *options)
        seconds = time.perf_counter() - start
    row = {
        "arguments": arguments,
        "planned_seconds": round(planned["wall_seconds"], 1),
        "real_seconds": round(seconds, 1),
        "planned_by_real": round(planned["wall_seconds"] / seconds, 2),
        "num_workers": planned["num_workers"],
    }
    print(json.dumps(row))


def _execute(*words: str) -> str:
    command = [sys.executable, "-m", "ungan_dist", *words]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()
