"""Draw one figure as SVG: the same bytes for the same content, and legible on light and dark pages."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from ungan_dist.attack.plots import INK as INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SVG_DPI = 72
"""Dots per inch of Matplotlib's SVG."""
LONG = 400
"""Characters of a path from which tenths of a point are exact enough; shorter ones may be marks."""
_GRID = re.compile(r'clip-path="[^"]*" style="fill: none; stroke: currentColor; stroke-opacity: 0.22; [^"]*"')


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
    method: str = ""
    """Method whose section has the figure; empty for a figure of all methods."""
    figure: Figure | None = field(default=None, compare=False, repr=False)
    """The Matplotlib figure, for other formats."""


def use_style() -> AbstractContextManager[None]:
    """Replace the user's Matplotlib settings by its defaults and this report's style, within the context."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")
    }
    settings |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "ungan_dist",
        "pdf.fonttype": 42,  # journals refuse the default, Type 3
        "text.parse_math": False,  # a $ in a title is a $
        "font.sans-serif": ["DejaVu Sans"],
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


def make_drawing(
    figure: Figure, name: str, section: str, label: str, caption: str = "", *, method: str = ""
) -> Drawing:
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with _laid_out(figure):
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = _shorten(buffer.getvalue())
    return Drawing(name=name, section=section, label=label, caption=caption, svg=svg, method=method, figure=figure)


@contextlib.contextmanager
def _laid_out(figure: Figure) -> Iterator[None]:
    """Lay a figure out for SVG, and leave it so within the context: ``savefig`` would draw it once more to do so."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    engine, dpi = figure.get_layout_engine(), figure.dpi
    if engine is None:
        raise ValueError("the figure has no layout: make it by make_figure")
    FigureCanvasSVG(figure)  # texts are measured as this canvas, which it gives the figure, draws them
    figure.dpi = SVG_DPI
    engine.execute(figure)
    figure.dpi = dpi
    figure.set_layout_engine("none")
    try:
        yield
    finally:
        figure.set_layout_engine(engine)


def _shorten(svg: str) -> str:
    """Shorten an SVG to about a third: rounded coordinates, no blanks, and only ids that are used."""
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))

    def round_all(attribute: re.Match[str]) -> str:
        digits = 1 if len(attribute[0]) > LONG else 2
        text = re.sub(
            r"-?\d+\.\d{2,}", lambda number: f"{float(number[0]):.{digits}f}".removesuffix(".0"), attribute[0]
        )
        return re.sub(r"\s+", " ", text)

    svg = re.sub(r'\b(?:d|x|y)="[^"]*"', round_all, svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    # a tick repeats the style of its mark
    svg = re.sub(rf'(<use [^>]*?) style="fill: {INK}; stroke: {INK}; stroke-width: [\d.]+"', r"\1", svg)
    return re.sub(r"\n\s*", "\n", svg)


def inline_svg(drawing: Drawing) -> str:
    """Return the figure for an HTML page, in the page's text colour and with ids that no other figure has."""
    svg = drawing.svg[drawing.svg.index("<svg") :].replace(INK, "currentColor")
    svg = _GRID.sub('class="grid"', svg).replace("font-family: 'DejaVu Sans', sans-serif; ", "")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{drawing.name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{drawing.name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{drawing.name}-\1)", svg)
    opening = f'role="img" aria-label="{escape(drawing.label)}" width="100%"'
    return re.sub(r'<svg ([^>]*?)width="[^"]*"', lambda found: f"<svg {found[1]}{opening}", svg, count=1)


def slug(text: str) -> str:
    """Turn a name into one that files and ids may have."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_") or "unnamed"
