"""Parse the arguments of ``ungan-dist bench``, and list its suites."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

from suites import SUITES

from ungan_dist.errors import ConfigError, suggest

DESCRIPTION = "Run suites of the benchmark, or compare two results; ungan-dist bench --help has all."


def parse(arguments: Sequence[str], results: Path) -> argparse.Namespace:
    """Parse the arguments, and end the process where they are wrong; ``results`` has the published files."""
    parser = argparse.ArgumentParser(prog="ungan-dist bench", description=DESCRIPTION)
    parser.add_argument("suites", nargs="*", metavar="SUITE")
    parser.add_argument("--output", type=Path, default=results)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    asked.suites = [name.replace("_", "-") for name in asked.suites]
    if asked.suites[:1] == ["list"]:
        if len(arguments) > 1:
            parser.error("list prints all suites, and takes no argument")
        return asked
    unknown = [f"{name}{suggest(name, SUITES)}" for name in asked.suites if name not in SUITES]
    if unknown:
        parser.error(f"unknown suites {', '.join(unknown)}; there are {', '.join(SUITES)}")
    if not can_hold_files(asked.output):
        parser.error(f"--output {asked.output} is no folder, and none can be made there")
    if (asked.quick or asked.busy) and not asked.only and asked.output.resolve() == results:
        option, why = ("--quick", "sizes that mean nothing") if asked.quick else ("--busy", "beside other work")
        parser.error(f"{option} measures {why}: name a folder other than {results} with --output")
    return asked


def can_hold_files(folder: Path) -> bool:
    """Return whether files can be written into a folder, which need not exist yet."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


def list_suites(results: Path) -> str:
    """List the suites, with the seconds that their published measurements took."""
    rows = [("suite", "took", "measures")]
    for name, suite in SUITES.items():
        path = results / f"{name.replace('-', '_')}.json"
        took = f"{json.loads(path.read_text())['wall_s']:.0f} s" if path.is_file() else "-"
        rows.append((name, took, suite.title + ("" if suite.by_default else " (only if named)")))
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:<{width}}  {took:>6}  {title}" for name, took, title in rows)


def check_cluster() -> None:
    """Query the cluster that RAY_ADDRESS names, because Ray itself would try for minutes.

    Raises:
        ConfigError: RAY_ADDRESS names none, or it does not answer or refuses this user's token.
    """
    from ungan_dist.cluster.connection import check_address, choose_address

    if os.environ.get("RAY_ADDRESS", "local") == "local":
        raise ConfigError(
            "the suite cluster measures the Ray cluster that RAY_ADDRESS names: set RAY_ADDRESS to host:port of its "
            "head, or run the suite fleet, which starts a cluster on this machine"
        )
    check_address(choose_address("auto")[0])
