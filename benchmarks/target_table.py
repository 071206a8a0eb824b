"""Format the targets beside what the results files have measured; a miss states what limits it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ratio_text import format_ratio, has_interval, limits_of

Row = Mapping[str, Any]
ReadRows = Callable[[str], list[Row]]
"""Returns the rows of a results file by its name; empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A figure that this project aims at."""

    subject: str
    target: str
    results: str
    """Results file that has the measured figure."""
    measure: Callable[[list[Row]], tuple[str, bool | None] | None]
    """Returns the figure of the file's rows, and whether it meets the target if it decides that; None if they do not
    have it."""
    limit: str = ""
    """What limits the figure, for as long as it misses the target."""


def _of_values(subject: str, name: str, unit: str = "") -> Callable[[list[Row]], tuple[str, bool] | None]:
    """Read a value of the row with a subject that begins so, which states whether it meets its target."""

    def measure(rows: list[Row]) -> tuple[str, bool] | None:
        found = [row for row in rows if row["subject"].startswith(subject) and name in row.get("values", {})]
        return (f"{_format(found[0]['values'][name])}{unit}", bool(found[0].get("met"))) if found else None

    return measure


def _of_ratio(subject: str, rival: str, least: float) -> Callable[[list[Row]], tuple[str, bool | None] | None]:
    """Read the ratio of a subject that begins so to a rival; its whole interval has to meet the target."""

    def measure(rows: list[Row]) -> tuple[str, bool | None] | None:
        for row in rows:
            if "ratio" in row and row["subject"].startswith(subject) and row["rival"] == rival:
                is_met = limits_of(row)[0] >= least if has_interval(row) else None
                return format_ratio(row, digits=1).replace(" ", " × ", 1), is_met
        return None

    return measure


def _of_counts(subject: str, name: str, most: float) -> Callable[[list[Row]], tuple[str, bool] | None]:
    def measure(rows: list[Row]) -> tuple[str, bool] | None:
        found = [row["counts"][name] for row in rows if row["subject"].startswith(subject)]
        return (f"{found[0]:g}", found[0] <= most) if found else None

    return measure


def _largest_share(rows: list[Row]) -> tuple[str, bool] | None:
    """Return the largest part of an audit other than training."""
    parts = [row for row in rows if "share_of_the_time" in row.get("values", {}) and "target" in row]
    if not parts:
        return None
    largest = max(parts, key=lambda row: row["values"]["share_of_the_time"])
    return f"{largest['subject']}: {largest['values']['share_of_the_time']:.1%}", all(row["met"] for row in parts)


def _largest_error(rows: list[Row]) -> tuple[str, bool] | None:
    """Return the largest error of a simulated wall time."""
    errors = [row["values"]["error"] for row in rows if row.get("target") == "within 10 %"]
    if not errors:
        return None
    worst = max(errors, key=abs)
    return f"{worst:+.1%}, the largest of {len(errors)}", abs(worst) <= 0.1


def _on_a_gpu(rows: list[Row]) -> tuple[str, bool | None] | None:
    """Point to the table of ``gpu.json`` once a GPU has been measured; it has its own verdicts."""
    return ("see [On a GPU](#on-a-gpu)", None) if rows else None


TARGETS = (
    Target(subject="shadow models an hour, one GPU, ImageNet stem",
           target="≥ 30 × one at a time in eager mode, ≥ 1,800", results="gpu", measure=_on_a_gpu),
    Target(subject="shadow models an hour, one GPU, CIFAR stem", target="≥ 7 ×, ≥ 420", results="gpu",
           measure=_on_a_gpu),
    Target(subject="T_U of UnGAN, one GPU", target="≥ 6 × eager mode", results="gpu", measure=_on_a_gpu),
    Target(subject="critic update with SGD: launches", target="≤ 6", results="kernels",
           measure=_of_counts("critic update with SGD", "fused_kernels", 6)),
    Target(subject="critic update, one GPU", target="≥ 20 × eager mode, ≥ 5 × eager mode in a CUDA graph",
           results="gpu", measure=_on_a_gpu),
    Target(subject="energy distance, 65,536 × 65,536 × 64, one GPU",
           target="forward ≥ 4 ×, with backward ≥ 10 × `torch.cdist`, < 1 % of its memory", results="gpu",
           measure=_on_a_gpu),
    Target(subject="augmentation of small images on 2 CPU cores", target="≥ 8 × FFCV's stock pipeline",
           results="loaders", measure=_of_ratio("CIFAR-10", "FFCV stock, bytes", 8.0),
           limit="the loader around the pixel code: the code alone is about fast enough, see the limits below"),
    Target(subject="augmentation of large JPEG files on 2 CPU cores", target="≥ 8 × FFCV's stock pipeline",
           results="loaders", measure=_of_ratio("synthetic JPEG", "FFCV stock, bytes", 8.0),
           limit="decoding alone is slower than the target, see the limits below"),
    Target(subject="LiRA of 512 shadow models × 45,000 examples × 2 queries", target="≥ 20 × a loop over examples",
           results="scoring", measure=_of_ratio("512 shadow models", "loop over examples", 20.0)),
    Target(subject="peak memory of scoring 512 shadow models", target="< 1 GB", results="scoring",
           measure=_of_values("memory", "peak_of_the_process_MB", " MB"),
           limit="the libraries: most of it is there before any log-odds are read"),
    Target(subject="efficiency of 104 sleeping units of 2 s on 8 warm workers", target="≥ .95", results="fleet",
           measure=_of_values("104 sleeping units", "efficiency"),
           limit="warm workers that a smaller list of units before ended, so that they started again; a fleet keeps "
                 "them now"),
    Target(subject="start of a unit on a warm worker", target="< 1 s", results="fleet",
           measure=_of_values("a unit on a warm worker", "start_s", " s")),
    Target(subject="simulated against real wall time, no failures", target="within 10 %", results="fleet",
           measure=_largest_error, limit="the same restart of workers, which the simulation does not have"),
    Target(subject="start of a worker process", target="< 2 s", results="audit",
           measure=_of_values("start of a worker process", "s", " s")),
    Target(subject="parts of a whole audit of the digits, except training", target="each < 20 %", results="audit",
           measure=_largest_share),
)  # fmt: skip


def table(read_rows: ReadRows) -> str:
    """Format all targets."""
    lines = ["| | target | measured | | limited by |", "|---|---|---|---|---|"]
    for target in TARGETS:
        figure, is_met = target.measure(read_rows(target.results)) or ("not measured yet", None)
        if is_met is False and not target.limit:
            raise SystemExit(f"{target.subject} misses its target: state in benchmarks/target_table.py what limits it")
        verdict = {True: "met", False: "**missed**", None: ""}[is_met]
        limit = target.limit if is_met is False else ""
        lines.append(f"| {target.subject} | {target.target} | {figure} | {verdict} | {limit} |")
    return "\n".join([*lines, ""])


def _format(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
