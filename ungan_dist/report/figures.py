"""Figures as SVG: the same bytes for the same report, and legible on light and dark pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ungan_dist.attack.evidence import Evidence, Report
from ungan_dist.attack.metrics import roc_curve
from ungan_dist.report.drawing import INK, Drawing, make_drawing, make_figure, slug, use_style
from ungan_dist.report.overview_figures import draw_forest, draw_utility
from ungan_dist.report.roc_of_method import NUM_RATES, draw_roc_of_methods, rate_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    *("#3b82c4", "#d9772f", "#3a9a6a", "#9a6fd0", "#d0568e", "#2a9d9d", "#a08a1f"),
    *("#cc4b4b", "#9a6a4a", "#6f7f22", "#5b5bd0", "#c78fd6", "#1f6f8b"),
)
"""One more than a recipe has rows. Further rows are dashed."""
SETS = {"forget": "#d9772f", "retain": "#3a9a6a", "unseen": "#9a6fd0", "never seen": "#3b82c4"}

Scores = Float[np.ndarray, " _"]


def draw_figures(report: Report) -> list[Drawing]:
    """Draw every figure for which the report has data."""
    titles = {row.method: row.title for row in report.rows}
    found = {method: [e for e in report.evidence if e.method == method] for method in titles}
    found = {method: evidence for method, evidence in found.items() if evidence}
    if not found:
        return []
    with use_style():
        return [
            *draw_forest(report),
            *draw_utility(report),
            *_roc(found, titles),
            *draw_roc_of_methods(found, titles, COLOURS),
            *_log_odds(found, titles),
            *_curves(found, titles),
        ]


def _roc(found: dict[str, list[Evidence]], titles: dict[str, str]) -> list[Drawing]:
    """Draw the ROC curves of (b), of (b) with negated scores, and of (a) as the paper's TNR over FNR."""
    curves: list[tuple[str, str, str, str, Callable[[Evidence], tuple[Scores, Scores]]]] = [
        (
            "roc_b",
            "(b) Forget against never seen. Above the diagonal, forget examples still look like members.",
            "false positive rate (never seen)",
            "true positive rate (forget)",
            lambda e: (e.scores[e.forget], e.scores[e.non_members]),
        ),
        (
            "roc_b_flipped",
            "(b) with the sign turned. Above the diagonal, forget examples look less seen than never-seen ones.",
            "false positive rate (never seen)",
            "flipped true positive rate (forget)",
            lambda e: (-e.scores[e.forget], -e.scores[e.non_members]),
        ),
        (
            "roc_a",
            "(a) The paper's question, retain against forget: confounded; nothing is concluded from it.",
            "false negative rate (retain)",
            "true negative rate (forget)",
            lambda e: (-e.scores[e.forget], -e.scores[e.retain]),
        ),
    ]
    drawings: list[Drawing] = []
    for name, caption, across, up, groups in curves:
        negatives = min(len(groups(e)[1]) for evidence in found.values() for e in evidence)
        positives = min(len(groups(e)[0]) for evidence in found.values() for e in evidence)
        lowest = min(1 / negatives, 1 / positives, 0.01)
        grid = np.geomspace(lowest, 1, NUM_RATES)
        figure, axes = make_figure(4.6, 4.6)
        axes.plot(grid, grid, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="chance")
        for position, (method, evidence) in enumerate(found.items()):
            rates = np.stack([rate_at(*roc_curve(*groups(e)), grid) for e in evidence])
            colour, dash = COLOURS[position % len(COLOURS)], "-" if position < len(COLOURS) else "--"
            mean = np.where(rates.mean(0) > 0, rates.mean(0), np.nan)
            axes.plot(grid, mean, color=colour, linewidth=1.6, linestyle=dash, label=titles[method])
        axes.set(xscale="log", yscale="log", xlim=(lowest, 1), ylim=(lowest, 1), xlabel=across, ylabel=up)
        axes.set_aspect("equal")
        axes.minorticks_off()
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda rate, _: f"{rate * 100:g} %")
        _legend(axes, columns=2)
        drawings.append(make_drawing(figure, name, "roc", caption, caption))
    return drawings


def _log_odds(found: dict[str, list[Evidence]], titles: dict[str, str]) -> list[Drawing]:
    """Draw one panel per method, all with the same axes. The original is the "before" of every other method."""
    values = {method: _by_set(evidence) for method, evidence in found.items()}
    every = np.concatenate([part for sets in values.values() for part in sets.values()])
    if not len(every):
        return []
    low, high = np.quantile(every, [0.002, 0.998])
    fewest = min(len(part) for sets in values.values() for part in sets.values() if len(part))
    num_bins = int(np.clip(2 * np.sqrt(fewest), 12, 60))
    edges = np.linspace(low, high if high > low else low + 1, num_bins + 1)
    before = values.get("original")
    densities = {
        method: {name: _density(part, edges) for name, part in sets.items()} for method, sets in values.items()
    }
    top = 1.06 * max(heights.max() for sets in densities.values() for heights in sets.values())
    drawings: list[Drawing] = []
    for method, sets in densities.items():
        figure, axes = make_figure(4.6, 3.1)
        for name, heights in sets.items():
            is_forget = name == "forget"
            if is_forget:
                axes.stairs(heights, edges, color=SETS[name], fill=True, alpha=0.22)
            axes.stairs(heights, edges, color=SETS[name], linewidth=1.7 if is_forget else 1.1, label=name)
        if before is not None and method != "original":
            heights = densities["original"]["forget"]
            axes.stairs(
                heights, edges, color=SETS["forget"], linewidth=1.1, linestyle=(0, (2, 2)), label="forget, before"
            )
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, top), xlabel="log-odds of the true class", ylabel="density")
        axes.set_title("Before: Original" if method == "original" else f"After: {titles[method]}")
        _legend(axes, columns=3)
        caption = "before unlearning" if method == "original" else f"after {titles[method]}"
        drawings.append(
            make_drawing(figure, f"log_odds_{slug(method)}", "log_odds", f"Log-odds {caption}.", method=method)
        )
    return drawings


def _curves(found: dict[str, list[Evidence]], titles: dict[str, str]) -> list[Drawing]:
    """Draw one panel per loss and method: thin lines for seeds, and a bold mean if all have the same length."""
    drawings: list[Drawing] = []
    for position, (method, evidence) in enumerate(found.items()):
        for loss in sorted({loss for e in evidence for loss in e.curves}):
            runs = [np.asarray(e.curves[loss], dtype=float) for e in evidence if e.curves.get(loss)]
            if not runs:
                continue
            figure, axes = make_figure(3.4, 2.4)
            for run in runs:
                _line(axes, run, colour=COLOURS[position % len(COLOURS)], alpha=0.4 if len(runs) > 1 else 1)
            if len(runs) > 1 and len({len(run) for run in runs}) == 1:
                _line(axes, np.mean(runs, axis=0), colour=COLOURS[position % len(COLOURS)], alpha=1)
            axes.set(xlabel="epoch or round", ylabel=_in_words(loss), title=titles[method])
            axes.locator_params(axis="x", integer=True)
            # an offset in a corner would look like a part of the title
            axes.ticklabel_format(axis="y", useOffset=False)
            name = f"curve_{slug(method)}_{slug(loss)}"
            drawings.append(make_drawing(figure, name, "curves", f"{titles[method]}: {loss}.", method=method))
    return drawings


def _in_words(loss: str) -> str:
    words = loss.replace("_", " ")
    measures = ("loss", "entropy", "divergence", "distance", "accuracy", "penalty", "gap")
    return words if any(measure in words for measure in measures) else f"{words} loss"


def _line(axes: Axes, values: Float[np.ndarray, " epochs"], *, colour: str, alpha: float) -> None:
    marker = "o" if len(values) == 1 else None
    width = 1.8 if alpha == 1 else 0.9
    axes.plot(range(1, len(values) + 1), values, color=colour, alpha=alpha, linewidth=width, marker=marker)


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


def _legend(axes: Axes, *, columns: int) -> None:
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
