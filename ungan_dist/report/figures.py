"""Figures as SVG: the same bytes for the same report, and legible on light and dark pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ungan_dist.attack.evidence import Evidence, Report
from ungan_dist.attack.plots import COLOURS as COLOURS
from ungan_dist.attack.plots import Column, collect_evidence, draw_curve, draw_log_odds, draw_roc
from ungan_dist.report.drawing import Drawing, make_drawing, make_figure, slug, use_style
from ungan_dist.report.overview_figures import draw_forest, draw_utility
from ungan_dist.report.roc_of_method import draw_roc_of_methods

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROCS: dict[Column, str] = {
    "b": "(b) Forget against never seen. Above the diagonal, forget examples still look like members.",
    "b_flipped": "(b) with the sign turned. Above the diagonal, forget examples look less seen than never-seen ones.",
    "a": "(a) The paper's question, retain against forget: confounded; nothing is concluded from it.",
}
Found = Mapping[str, Sequence[Evidence]]
Titles = Mapping[str, str]


def draw_figures(report: Report) -> list[Drawing]:
    """Draw every figure for which the report has data."""
    titles, found = {row.method: row.title for row in report.rows}, collect_evidence(report)
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


def _roc(found: Found, titles: Titles) -> list[Drawing]:
    """Draw the ROC curves of (b), of (b) with negated scores, and of (a) as the paper's TNR over FNR."""
    drawings: list[Drawing] = []
    for column, caption in _ROCS.items():
        figure, axes = make_figure(4.6, 4.6)
        draw_roc(found, titles, axes, column=column)
        _legend(axes, columns=2)
        drawings.append(make_drawing(figure, f"roc_{column}", "roc", caption, caption))
    return drawings


def _log_odds(found: Found, titles: Titles) -> list[Drawing]:
    """Draw one panel per method, all with the same axes."""
    figures: dict[str, tuple[Figure, Axes]] = {}

    def draw_on(method: str) -> Axes:
        figures[method] = make_figure(4.6, 3.1)
        return figures[method][1]

    draw_log_odds(found, titles, draw_on)
    drawings: list[Drawing] = []
    for method, (figure, axes) in figures.items():
        _legend(axes, columns=3)
        caption = "before unlearning" if method == "original" else f"after {titles[method]}"
        drawings.append(
            make_drawing(figure, f"log_odds_{slug(method)}", "log_odds", f"Log-odds {caption}.", method=method)
        )
    return drawings


def _curves(found: Found, titles: Titles) -> list[Drawing]:
    """Draw one panel per loss and method."""
    drawings: list[Drawing] = []
    for position, (method, evidence) in enumerate(found.items()):
        for loss in sorted({loss for e in evidence for loss in e.curves}):
            if not any(e.curves.get(loss) for e in evidence):
                continue
            figure, axes = make_figure(3.4, 2.4)
            draw_curve(axes, evidence, loss, colour=COLOURS[position % len(COLOURS)])
            # a section has several losses of one method
            axes.set(title=f"{titles[method]}\n{axes.get_ylabel()}", ylabel="")
            name = f"curve_{slug(method)}_{slug(loss)}"
            drawings.append(make_drawing(figure, name, "curves", f"{titles[method]}: {loss}.", method=method))
    return drawings


def _legend(axes: Axes, *, columns: int) -> None:
    axes.figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)
