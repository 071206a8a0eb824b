"""Publish results in README.md and docs/.

    python benchmarks/publish.py                   refresh every table and figure from benchmarks/results
    python benchmarks/publish.py RUN [NAME]        store a finished run as benchmarks/results/NAME.json first
    python benchmarks/publish.py ROWS.jsonl        store the rows of benchmarks/gpu.py first
    python benchmarks/publish.py --check           exit with 1 if a table or figure is out of date

A table stands between ``<!-- results: NAME -->`` and ``<!-- end -->``; ``NAME:caption`` is its caption alone.
No figure is typed by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import fault_table
import kernel_table
import loader_table
import monitoring_table
import run_figure
import run_table
import sequential_table
import slurm_table
import soak_table
import suite_table
import target_table
import training_table
from gpu_parts.session import read_rows
from gpu_parts.table import published_table
from harness import describe_commit, hardware
from suites import SUITES

from ungan_dist import store

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
ASSETS = ROOT / "docs/assets"
FIGURES = ("digits", "cifar10-small")
"""Runs whose verdicts are drawn, as docs/assets/NAME.svg."""
TABLES = {
    "audit_before": suite_table.before_table,
    "audit_time": training_table.audit_table,
    "gpu": published_table,
    "kernels": kernel_table.table,
    "loaders": loader_table.table,
    "monitoring": monitoring_table.table,
    "network_faults": fault_table.table,
    "sequential": sequential_table.table,
    "slurm": slurm_table.table,
    "soak": soak_table.table,
    "storage_faults": fault_table.table,
    "step_counts": training_table.count_table,
    "training": training_table.time_table,
    "training_accuracy": training_table.accuracy_table,
}
"""Results other than runs, each with its own table."""
SUITE_FILES = {name.replace("-", "_"): name for name in SUITES}
"""Results of ``ungan-dist bench`` → suite."""


def store_run(run: Path, name: str) -> None:
    """Write a run's results file and its full table."""
    from ungan_dist.runs.versions import versions

    if not (run / "table.json").is_file():
        raise SystemExit(f"{run} has no table.json: run `ungan-dist report {run}` first")
    results = {
        "table": store.read_json(run / "table.json"),
        "timings": store.read_json(run / "timings.json"),
        "versions": versions(),
        "hardware": hardware(),
        "commit": describe_commit(),
    }
    store.write_json(RESULTS / f"{name}.json", results)
    store.write_file(RESULTS / f"{name}.md", (run / "table.md").read_bytes())


def store_gpu_rows(path: Path) -> None:
    """Write the results file of ``benchmarks/gpu.py``.

    Raises:
        SystemExit: There are no rows, or they are those of a rehearsal.
    """
    rows = read_rows(path)
    if not rows:
        raise SystemExit(f"{path} has no rows: give the rows.jsonl that benchmarks/gpu.py has written")
    if any(row.get("rehearsal") for row in rows):
        raise SystemExit(f"{path} is of a rehearsal, which measures nothing: run benchmarks/gpu.py on a GPU")
    store.write_json(RESULTS / "gpu.json", {"rows": rows})


def published() -> dict[Path, str]:
    """Return every file with published figures, as it should be."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    files = {page: _fill(page.read_text()) for page in pages if "<!-- results: " in page.read_text()}
    return files | {ASSETS / f"{name}.svg": run_figure.figure(_results(name)) for name in FIGURES}


def _fill(text: str) -> str:
    """Put each table into its block."""

    def block(match: re.Match[str]) -> str:
        name, _, part = match[1].partition(":")
        if name == "targets":
            text = target_table.table(_read_rows)
        elif name in SUITE_FILES:
            text = _format_suite(name)
        else:
            write = run_table.caption if part == "caption" else TABLES.get(name, run_table.table)
            text = write(_results(name))
        return f"<!-- results: {match[1]} -->\n{text}<!-- end -->"

    return re.sub(r"<!-- results: (\S+) -->\n.*?<!-- end -->", block, text, flags=re.S)


def _format_suite(name: str) -> str:
    """Format a suite of ``ungan-dist bench``, which may not have been measured yet."""
    results = _read_suite(name)
    if not results:
        return suite_table.NOT_MEASURED.format(name=SUITE_FILES[name])
    return TABLES.get(name, suite_table.table)(results)


def _read_suite(name: str) -> dict[str, Any]:
    """Read the results of a suite; empty if it has not been measured yet.

    Raises:
        SystemExit: They are not worth publishing.
    """
    path = RESULTS / f"{name}.json"
    results = _results(name) if path.is_file() else {}
    faults = {
        "was measured at tiny sizes (--quick)": results.get("quick"),
        "was measured on a busy machine": results.get("is_marked"),
        f"is incomplete, because {'; '.join(results.get('problems', []))}": results.get("problems"),
        "has no rows": results and not results["rows"],
    }
    for fault in [words for words, is_so in faults.items() if is_so]:
        raise SystemExit(f"{path} {fault}: run `ungan-dist bench {SUITE_FILES[name]}` on an idle machine")
    return results


def _read_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a results file; none if there is no file."""
    if name in SUITE_FILES:
        return _read_suite(name).get("rows", [])
    return _results(name)["rows"] if (RESULTS / f"{name}.json").is_file() else []


def _results(name: str) -> dict[str, Any]:
    return store.read_json(RESULTS / f"{name}.json")


def main(arguments: list[str]) -> None:
    """Refresh or check what is published."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__)
        return
    if len(arguments) > 2 or (arguments[:1] != ["--check"] and any(word.startswith("-") for word in arguments)):
        raise SystemExit(__doc__)
    if arguments == ["--check"]:
        stale = [path for path, text in published().items() if not path.is_file() or path.read_text() != text]
        if stale:
            names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
            raise SystemExit(f"out of date: {names}. Run: python benchmarks/publish.py")
        return
    if arguments and arguments[0].endswith(".jsonl"):
        store_gpu_rows(Path(arguments[0]))
    elif arguments:
        folder = Path(arguments[0])
        store_run(folder, arguments[1] if arguments[1:] else store.read_json(folder / "table.json")["recipe"])
    for path, text in published().items():
        store.write_file(path, text.encode())


if __name__ == "__main__":
    main(sys.argv[1:])
