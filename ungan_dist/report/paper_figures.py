"""The figures of the report for a paper: PNG and PDF, black on white, at the width of a column."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ungan_dist.report.drawing import INK, Drawing, use_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN = 3.25
"""Width of one of two columns, in inches."""
PAGE = 6.75
"""Width of both, for the figures of the overview."""
FONT = 7
"""Size of the largest text, in points."""
DPI = 300
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Without dates and versions, so that the same report gives the same bytes."""


def draw_for_paper(drawings: Sequence[Drawing], formats: Sequence[str]) -> dict[str, bytes]:
    """Draw figures in other formats, by file name."""
    found: dict[str, bytes] = {}
    with use_style():
        for drawing in drawings:
            assert drawing.figure is not None
            _fit(drawing.figure, PAGE if drawing.section == "overview" else COLUMN)
            for form in formats:
                stream = io.BytesIO()
                drawing.figure.savefig(stream, format=form, dpi=DPI, facecolor="white", metadata=_METADATA[form])
                found[f"{drawing.name}.{form}"] = stream.getvalue()
    return found


def _fit(figure: Figure, width: float) -> None:
    """Resize a figure and its texts, and blacken what takes the page's colour on the page."""
    from matplotlib.colors import to_hex
    from matplotlib.lines import Line2D
    from matplotlib.spines import Spine
    from matplotlib.text import Text

    before, height = figure.get_size_inches()
    figure.set_size_inches(width, height * width / before)
    for artist in figure.findobj():
        if isinstance(artist, Text):
            artist.set_fontsize(min(float(artist.get_fontsize()) * FONT / 9, FONT))
            if to_hex(artist.get_color()) == INK:
                artist.set_color("black")
        elif isinstance(artist, Line2D) and to_hex(artist.get_color()) == INK:
            artist.set_color("black")
        elif isinstance(artist, Spine):
            artist.set_edgecolor("black")
