"""Count what a change must not raise: operations and host waits of a step, imports, bytes shipped to Ray, requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import step_counts
import storage
from harness import ROOT, count_row

IMPORTS = {
    "import ungan_dist": "import ungan_dist",
    "a Ray worker, before its first unit": "import ungan_dist.cluster.worker",
    "ungan-dist --help": "from ungan_dist import cli; cli._dispatch(['--help'])",
    "ungan-dist status --help": "from ungan_dist import cli; cli._dispatch(['status', '--help'])",
    "ungan-dist run digits --help": "from ungan_dist import cli\ntry: cli._dispatch(['run', 'digits', '--help'])\n"
    "except SystemExit: pass",
}
"""What a user starts → Python code that imports as much."""
OUTPUT = "/no/such/folder"
"""Output of the plan whose units are shipped. Nothing is written, and the length of its name counts."""
_COUNT = """
import contextlib, io, json, sys
known = set(sys.modules)
with contextlib.redirect_stdout(io.StringIO()):
    exec(sys.argv[1])
new = set(sys.modules) - known
ours = sum(name.split('.')[0] == 'ungan_dist' for name in new)
tops = {name.split('.')[0] for name in new} - set(sys.stdlib_module_names) - {'ungan_dist'}
others = [top for top in tops if not top.startswith('_') and getattr(sys.modules.get(top), '__file__', None)]
print(json.dumps([ours, len(others)]))
"""


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Count everything; the counts are the same when quick."""
    del quick
    for subject, code in IMPORTS.items():
        ours, others = count_imports(code)
        yield count_row(subject, modules=ours, packages_of_others=others)
    for kind, (operations, waits) in step_counts.count_in().items():
        yield count_row(f"step: {kind}", operations=operations, waits=waits)
    yield from count_shipped_bytes()
    with tempfile.TemporaryDirectory() as folder:
        yield from storage.count(Path(folder).resolve())


def count_imports(code: str) -> tuple[int, int]:
    """Return how many modules of ours, and how many other packages, a new process imports for some code."""
    command = [sys.executable, "-W", "ignore", "-c", _COUNT, code]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    ours, others = json.loads(run.stdout)
    return ours, others


def count_shipped_bytes() -> Iterator[dict[str, object]]:
    """Count the bytes that a fleet ships to Ray for a unit, and for a worker, with the recipe digits."""
    import cloudpickle

    from ungan_dist.cluster.shipping import Packing
    from ungan_dist.config.recipes import digits
    from ungan_dist.runs import units
    from ungan_dist.runs.plan import make_plan

    plan = make_plan(digits(output=OUTPUT), device="cpu")
    shared: list[int] = []
    packing = Packing(lambda array: shared.append(array.nbytes))
    for name, unit in {"shadow unit": plan.shadows[0], "target": plan.originals[0]}.items():
        yield count_row(f"shipped to Ray: {name} of digits", bytes=len(cloudpickle.dumps(packing.pack(unit))))
    for unit in plan.units:
        packing.pack(unit)
    yield count_row("shipped to Ray: worker of digits", bytes=len(cloudpickle.dumps(units.execute)))
    yield count_row("shipped to Ray: arrays of all units of digits, once to a node", bytes=sum(shared))
