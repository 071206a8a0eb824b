"""Trials of simulations: fewer audits than the published ones, whose results replace nothing."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse_num_audits(description: str | None, default: int, results: Path) -> tuple[int, Path]:
    """Parse the number of audits of a simulation from the command line.

    Args:
        description: For ``--help``.
        default: Audits of each case in the published results.
        results: The published results file.

    Returns:
        The number, and the file to write: the published one, or for fewer audits one in ``unpublished``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "num_audits",
        nargs="?",
        type=int,
        default=default,
        metavar="NUM_AUDITS",
        help=f"audits of each case; defaults to {default}. Fewer are written to benchmarks/results/unpublished",
    )
    num_audits = parser.parse_args().num_audits
    return num_audits, results if num_audits >= default else results.parent / "unpublished" / results.name
