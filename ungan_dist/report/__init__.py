"""The report: table.json, timings.json, table.md, report.html and the figures, as bytes by file name."""

from __future__ import annotations

from collections.abc import Sequence

from ungan_dist.attack.evidence import Report


def render(report: Report, *, paper: Sequence[str] = ()) -> dict[str, bytes]:
    """Render every file of the report; the caller writes them.

    Args:
        report: the report.
        paper: formats in which figures are also drawn for a paper: ``png``, ``pdf`` or both.

    The same report gives the same bytes. ``report.html`` contains images and ids of forget examples if
    ``report.examples`` is set. The other files never do.
    """
    from ungan_dist.report.figures import draw_figures
    from ungan_dist.report.html import render_page
    from ungan_dist.report.markdown import render_markdown
    from ungan_dist.report.paper_figures import draw_for_paper
    from ungan_dist.report.table_json import build_table, to_json
    from ungan_dist.report.timings import build_timings

    drawings = draw_figures(report)
    papers = draw_for_paper(drawings, paper) if paper else {}
    return {
        "table.json": to_json(build_table(report)),
        "timings.json": to_json(build_timings(report)),
        "table.md": render_markdown(report).encode(),
        "report.html": render_page(report, drawings).encode(),
        **{f"figures/{drawing.name}.svg": drawing.svg.encode() for drawing in drawings},
        **{f"figures/{name}": content for name, content in papers.items()},
    }
