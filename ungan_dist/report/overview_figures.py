"""The first figures of the report: each method's gap beside its test accuracy, and its loss of utility against its gap.

They take the colours of the verdicts. Controls and models before unlearning are drawn hollow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ungan_dist.attack.evidence import Report, Row
from ungan_dist.attack.plots import INK, TONES, draw_band, draw_gaps, draw_interval, mark_row, name_row
from ungan_dist.attack.summary import style_of_row
from ungan_dist.attack.utility import FORGOTTEN
from ungan_dist.config.attack import ATTACK_NAMES
from ungan_dist.report.cells import find_first_attack, forgets_classes, format_gap_level
from ungan_dist.report.drawing import Drawing, make_drawing, make_figure
from ungan_dist.report.power import get_delta, get_utility_margin

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_forest(report: Report) -> list[Drawing]:
    """Draw the gap of each row with δ's band, beside its test accuracy and that of the reference."""
    rows = report.rows[::-1]
    if not any(row.verdict.gap is not None for row in rows):
        return []
    figure, left, right = make_figure(8.4, 1.3 + 0.3 * len(rows), panels=(3, 2))
    draw_gaps(report, left)
    shown, of = ("test_others", " on the other classes") if forgets_classes(report) else ("test", "")
    for height, row in enumerate(rows):
        draw_interval(right, row.accuracy.get(shown), height, row, scale=100)
    reference = next((row for row in report.rows if row.verdict.gap is None), None)
    if reference is not None and shown in reference.accuracy:
        right.axvline(100 * reference.accuracy[shown].mean, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    right.set_yticks(range(len(rows)), [""] * len(rows))
    right.set(xlabel=f"test accuracy{of}, %, 95 % interval", ylim=left.get_ylim())
    caption = (
        f"Left: the gap by {ATTACK_NAMES[find_first_attack(report)]}. The band is (−δ, δ), where a method may be "
        "equivalent. The table names the attack that decides. Right: the test accuracy. The dashed line is that of the "
        "reference. A good method is in the band and on the line."
    )
    return [make_drawing(figure, "forest", "overview", caption, caption)]


def draw_utility(report: Report) -> list[Drawing]:
    """Draw each row's loss of utility, the larger of the two sets, against its gap."""
    rows = [row for row in report.rows if row.loss and row.verdict.gap is not None]
    if not rows:
        return []
    figure, axes, names = make_figure(6.6, max(4.2, 1.3 + 0.26 * len(rows)), panels=(5, 2))
    draw_band(axes, get_delta(report))
    margin = get_utility_margin(report)
    axes.axhline(0, color=INK, linewidth=0.8)
    if margin is not None:
        axes.axhline(100 * margin, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    points: list[tuple[float, float]] = []
    for row in rows:
        losses = [loss for name, loss in row.loss.items() if name != FORGOTTEN]
        gap, loss = row.verdict.gap, max(losses, key=lambda interval: interval.mean)
        assert gap is not None
        colour = TONES[style_of_row(row)]
        axes.plot([gap.low, gap.high], [100 * loss.mean] * 2, color=colour, linewidth=1.2, alpha=0.6)
        axes.plot([gap.mean] * 2, [100 * loss.low, 100 * loss.high], color=colour, linewidth=1.2, alpha=0.6)
        axes.plot(gap.mean, 100 * loss.mean, **mark_row(row))
        points.append((gap.mean, 100 * loss.mean))
    axes.set(
        xlabel=f"gap in AUC, {format_gap_level(report)} interval", ylabel="loss of accuracy, points, 90 % interval"
    )
    _name_points(axes, names, points, rows)
    caption = (
        "Loss of accuracy against the reference, on retain or test examples, whichever is larger. The dashed line is "
        "the margin of utility. A good method is in the band and below the line."
    )
    return [make_drawing(figure, "utility", "overview", caption, caption)]


def _name_points(axes: Axes, names: Axes, points: list[tuple[float, float]], rows: list[Row]) -> None:
    """Write the names of points one below the other in a panel beside them, each with a line to its point."""
    from matplotlib.patches import ConnectionPatch

    low, high = axes.get_ylim()
    names.set(xlim=(0, 1), ylim=(low, high))
    names.set_axis_off()
    order = sorted(range(len(rows)), key=lambda index: (points[index][1], -points[index][0]))
    heights = spread([points[index][1] for index in order], low, high)
    for index, height in zip(order, heights, strict=True):
        colour = TONES[style_of_row(rows[index])]
        names.text(0.06, height, name_row(rows[index]), va="center", fontsize=8)
        line = ConnectionPatch(
            points[index],
            (0.03, height),
            "data",
            "data",
            axesA=axes,
            axesB=names,
            color=colour,
            alpha=0.5,
            linewidth=0.7,
        )
        line.set_in_layout(False)
        axes.figure.add_artist(line)


def spread(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Move sorted heights apart, so that texts at them do not overlap, and keep them between two bounds.

    Examples:
        >>> [round(height, 2) for height in spread([0.0, 0.0, 9.0], 0.0, 10.0)]
        [0.4, 0.95, 9.0]
    """
    gap = min(0.055 * (high - low), (high - low) / (len(wanted) + 1))
    edge = 0.04 * (high - low)
    heights: list[float] = []
    for height in wanted:
        heights.append(max(height, heights[-1] + gap if heights else low + edge))
    above = high - edge
    for index in range(len(heights) - 1, -1, -1):
        heights[index] = min(heights[index], above)
        above = heights[index] - gap
    return heights
