"""Draw one figure as SVG: the same bytes for the same content, and legible on light and dark pages."""

from __future__ import annotations

import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#7a7f87"
"""Colour of text and axes: a grey that is legible on white and on black."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One figure of the report."""

    name: str
    """File name below ``figures/``, without ``.svg``."""
    section: str
    """``overview``, ``roc``, ``log_odds`` or ``curves``."""
    label: str
    """Description for readers who cannot see the figure."""
    caption: str
    """Sentence below the figure on the page; empty if its title is enough."""
    svg: str


def use_style() -> AbstractContextManager[None]:
    """Replace the user's Matplotlib settings by its defaults and this report's style, within the context."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")
    }
    settings |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "ungan_dist",
        "text.parse_math": False,  # a $ in a title is a $
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": INK,
        "grid.alpha": 0.22,
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "path.simplify": False,
    }
    for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"):
        settings[key] = INK
    return mpl.rc_context(settings)


def make_figure(width: float, height: float, *, panels: tuple[float, ...] = (1.0,)) -> tuple[Any, ...]:
    """Make a figure and its panels side by side, without pyplot, which would keep it and a backend in memory.

    Args:
        width: width in inches.
        height: height in inches.
        panels: relative width of each panel.

    Returns:
        The figure and the axes of each panel.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, len(panels), width_ratios=panels, squeeze=False)
    return figure, *axes[0]


def make_drawing(figure: Figure, name: str, section: str, label: str, caption: str = "") -> Drawing:
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    return Drawing(name=name, section=section, label=label, caption=caption, svg=buffer.getvalue())


def inline_svg(drawing: Drawing) -> str:
    """Return the figure for an HTML page, in the page's text colour and with ids that no other figure has."""
    svg = drawing.svg[drawing.svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{drawing.name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{drawing.name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{drawing.name}-\1)", svg)
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', r'<svg \1role="img" width="100%"', svg, count=1)
