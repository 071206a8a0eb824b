"""Draw the results of an audit on Matplotlib axes, for the report's figures and for notebooks.

Each function draws on axes that it is given, with labels for a legend that the caller adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from ungan_dist.attack.evidence import Evidence, Interval, Report, Row
from ungan_dist.attack.metrics import roc_curve
from ungan_dist.attack.summary import format_gap_level, get_delta, style_of_row
from ungan_dist.config.methods import is_method

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#7a7f87"
"""Colour of text and axes: a grey that is legible on white and on black."""
TONES = {
    "equivalent": "#2f9e62",
    "utility-lost": "#c98a1b",
    "hidden-leak": "#d0524a",
    "under-forgotten": "#d0524a",
    "over-forgotten": "#9a5fc0",
    "inconclusive": "#c98a1b",
    "no-power": "#7d8ea3",
    "reference": "#7d8ea3",
}
BAND = "#2f9e62"
"""Colour of (−δ, δ)."""
COLOURS = (
    *("#3b82c4", "#d9772f", "#3a9a6a", "#9a6fd0", "#d0568e", "#2a9d9d", "#a08a1f"),
    *("#cc4b4b", "#9a6a4a", "#6f7f22", "#5b5bd0", "#c78fd6", "#1f6f8b"),
)
"""One more than a recipe has rows. Further rows are dashed."""
SETS = {"forget": "#d9772f", "retain": "#3a9a6a", "unseen": "#9a6fd0", "never seen": "#3b82c4"}
NUM_RATES = 161
"""Rates at which a ROC curve is drawn."""
Column = Literal["b", "b_flipped", "a"]
"""A comparison of two sets: the audit's, the same with the sign turned, and the paper's."""

Scores = Float[np.ndarray, " _"]
Rates = Float[np.ndarray, " rates"]


def collect_evidence(report: Report) -> dict[str, list[Evidence]]:
    """Collect the evidence of each row, over its seeds, in the order of the table."""
    found = {row.method: [item for item in report.evidence if item.method == row.method] for row in report.rows}
    return {method: evidence for method, evidence in found.items() if evidence}


def draw_gaps(report: Report, axes: Axes) -> None:
    """Draw the gap of each row with its interval, and δ's band."""
    rows = report.rows[::-1]
    draw_band(axes, get_delta(report))
    for height, row in enumerate(rows):
        draw_interval(axes, row.verdict.gap, height, row, empty=0.0)
    reference = next((row for row in report.rows if row.verdict.gap is None), None)
    axes.set_yticks(range(len(rows)), [name_row(row) for row in rows])
    to = ".5" if reference is None else reference.title
    axes.set(xlabel=f"gap in AUC to {to}, {format_gap_level(report)} interval", ylim=(-0.6, len(rows) - 0.4))


def draw_band(axes: Axes, delta: float | None) -> None:
    """Draw the line of no gap, and the band (−δ, δ)."""
    axes.axvline(0, color=INK, linewidth=0.8)
    if delta is not None:
        axes.axvspan(-delta, delta, color=BAND, alpha=0.13, linewidth=0)


def draw_interval(
    axes: Axes, interval: Interval | None, height: float, row: Row, *, scale: float = 1, empty: float | None = None
) -> None:
    """Draw an interval in the colour of the row's verdict; without one, its mark at ``empty``."""
    if interval is None:
        if empty is not None:
            axes.plot(empty, height, **mark_row(row))
        return
    colour = TONES[style_of_row(row)]
    axes.plot([scale * interval.low, scale * interval.high], [height, height], color=colour, linewidth=2.2)
    axes.plot(scale * interval.mean, height, **mark_row(row))


def name_row(row: Row) -> str:
    """Name a row, with the leak that its verdict hides."""
    return f"{row.title}, leaks to U-LiRA" if row.hidden_leak else row.title


def mark_row(row: Row) -> dict[str, Any]:
    """Return the mark of a row: hollow for controls and models before unlearning."""
    colour = TONES[style_of_row(row)]
    face = colour if is_method(row.method) else "none"
    return {"marker": "o", "markersize": 6, "color": colour, "markerfacecolor": face, "linestyle": "none"}


_GROUPS: dict[Column, Callable[[Evidence], tuple[Scores, Scores]]] = {
    "b": lambda e: (e.scores[e.forget], e.scores[e.non_members]),
    "b_flipped": lambda e: (-e.scores[e.forget], -e.scores[e.non_members]),
    "a": lambda e: (-e.scores[e.forget], -e.scores[e.retain]),
}
_AXES: dict[Column, tuple[str, str]] = {
    "b": ("false positive rate (never seen)", "true positive rate (forget)"),
    "b_flipped": ("false positive rate (never seen)", "flipped true positive rate (forget)"),
    "a": ("false negative rate (retain)", "true negative rate (forget)"),
}


def draw_roc(
    found: Mapping[str, Sequence[Evidence]], titles: Mapping[str, str], axes: Axes, *, column: Column = "b"
) -> None:
    """Draw the ROC curve of each method, the mean over its seeds, on logarithmic axes."""
    groups = _GROUPS[column]
    sizes = [min(len(groups(e)[part]) for evidence in found.values() for e in evidence) for part in (0, 1)]
    lowest = min(*(1 / size for size in sizes), 0.01)
    grid = np.geomspace(lowest, 1, NUM_RATES)
    axes.plot(grid, grid, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="chance")
    for position, (method, evidence) in enumerate(found.items()):
        rates = np.stack([rate_at(*roc_curve(*groups(e)), grid) for e in evidence])
        colour, dash = COLOURS[position % len(COLOURS)], "-" if position < len(COLOURS) else "--"
        mean = np.where(rates.mean(0) > 0, rates.mean(0), np.nan)
        axes.plot(grid, mean, color=colour, linewidth=1.6, linestyle=dash, label=titles[method])
    across, up = _AXES[column]
    axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1), xlabel=across, ylabel=up)
    axes.set_aspect("equal")
    write_rates(axes)


def write_rates(axes: Axes) -> None:
    """Write the rates on both axes in per cent."""
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda rate, _: f"{rate * 100:g} %")


def rate_at(fpr: Float[np.ndarray, " thresholds"], tpr: Float[np.ndarray, " thresholds"], grid: Rates) -> Rates:
    """Find the highest true positive rate whose false positive rate does not exceed each rate of the grid."""
    # rounding of the grid must not lose the point at exactly 1/n
    return tpr[np.searchsorted(fpr, grid * (1 + 1e-12), "right") - 1]


def draw_log_odds(
    found: Mapping[str, Sequence[Evidence]], titles: Mapping[str, str], draw_on: Callable[[str], Axes | None]
) -> None:
    """Draw the log-odds of the four sets, with the same axes for all methods.

    The original is the "before" of every other method.

    Args:
        found: evidence by method.
        titles: title of each method.
        draw_on: returns the axes of a method, or None for a method that is not drawn.
    """
    values = {method: _by_set(evidence) for method, evidence in found.items()}
    every = np.concatenate([part for sets in values.values() for part in sets.values()])
    if not len(every):
        return
    low, high = np.quantile(every, [0.002, 0.998])
    fewest = min(len(part) for sets in values.values() for part in sets.values() if len(part))
    num_bins = int(np.clip(2 * np.sqrt(fewest), 12, 60))
    edges = np.linspace(low, high if high > low else low + 1, num_bins + 1)
    densities = {
        method: {name: _density(part, edges) for name, part in sets.items()} for method, sets in values.items()
    }
    top = 1.06 * max(heights.max() for sets in densities.values() for heights in sets.values())
    for method, sets in densities.items():
        axes = draw_on(method)
        if axes is None:
            continue
        for name, heights in sets.items():
            is_forget = name == "forget"
            if is_forget:
                axes.stairs(heights, edges, color=SETS[name], fill=True, alpha=0.22)
            axes.stairs(heights, edges, color=SETS[name], linewidth=1.7 if is_forget else 1.1, label=name)
        if "original" in densities and method != "original":
            heights = densities["original"]["forget"]
            axes.stairs(
                heights, edges, color=SETS["forget"], linewidth=1.1, linestyle=(0, (2, 2)), label="forget, before"
            )
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, top), xlabel="log-odds of the true class", ylabel="density")
        axes.set_title("Before: Original" if method == "original" else f"After: {titles[method]}")


def _by_set(evidence: Sequence[Evidence]) -> dict[str, Scores]:
    """Collect the finite log-odds of each set over all seeds, averaged over the queries."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in SETS}
    for e in evidence:
        pool = e.log_odds.mean(axis=1, dtype=np.float64)
        parts["forget"].append(pool[e.forget])
        parts["retain"].append(pool[e.retain])
        parts["unseen"].append(e.log_odds_unseen.mean(axis=1, dtype=np.float64))
        parts["never seen"].append(pool[e.non_members])
    values = {name: np.concatenate(found) for name, found in parts.items()}
    return {name: found[np.isfinite(found)] for name, found in values.items()}


def _density(values: Scores, edges: Float[np.ndarray, " edges"]) -> Float[np.ndarray, " bins"]:
    # values beyond the axis count in the outermost bins, so that no tail vanishes
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / max(len(values), 1) / np.diff(edges)


def draw_curve(axes: Axes, evidence: Sequence[Evidence], loss: str, *, colour: str) -> None:
    """Draw a loss per epoch or round: thin lines for seeds, and a bold mean if all have the same length."""
    runs = [np.asarray(e.curves[loss], dtype=float) for e in evidence if e.curves.get(loss)]
    for run in runs:
        _line(axes, run, colour=colour, alpha=0.4 if len(runs) > 1 else 1)
    if len(runs) > 1 and len({len(run) for run in runs}) == 1:
        _line(axes, np.mean(runs, axis=0), colour=colour, alpha=1)
    axes.set(xlabel="epoch or round", ylabel=name_loss(loss))
    axes.locator_params(axis="x", integer=True)
    # an offset in a corner would look like a part of the title
    axes.ticklabel_format(axis="y", useOffset=False)


def _line(axes: Axes, values: Float[np.ndarray, " epochs"], *, colour: str, alpha: float) -> None:
    marker = "o" if len(values) == 1 else None
    width = 1.8 if alpha == 1 else 0.9
    axes.plot(range(1, len(values) + 1), values, color=colour, alpha=alpha, linewidth=width, marker=marker)


def name_loss(loss: str) -> str:
    """Name a loss in words."""
    words = loss.replace("_", " ")
    measures = ("loss", "entropy", "divergence", "distance", "accuracy", "penalty", "gap")
    return words if any(measure in words for measure in measures) else f"{words} loss"
