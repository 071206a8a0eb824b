"""The report: table.json, timings.json, table.md, report.html and the figures, as bytes by file name."""

from __future__ import annotations

from ungan_dist.attack.evidence import Report


def render(report: Report) -> dict[str, bytes]:
    """Every file of the report by its name below the report's folder; the caller writes them.

    The same report gives the same bytes. Pictures and ids of forget examples are in none of them.
    """
    from ungan_dist.report.figures import figures
    from ungan_dist.report.html import page
    from ungan_dist.report.markdown import markdown
    from ungan_dist.report.table_json import table, to_json
    from ungan_dist.report.timings import timings

    drawings = figures(report)
    return {
        "table.json": to_json(table(report)),
        "timings.json": to_json(timings(report)),
        "table.md": markdown(report).encode(),
        "report.html": page(report, drawings).encode(),
        **{f"figures/{drawing.name}.svg": drawing.svg.encode() for drawing in drawings},
    }
