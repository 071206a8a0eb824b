"""The report as GitHub Markdown (table.md), for a README or a pull request."""

from __future__ import annotations

import re

from ungan_dist.attack.evidence import Report
from ungan_dist.report.cells import (
    PAPER_GROUP,
    PAPER_NOTE,
    build_columns,
    explain_omitted_columns,
    name_column,
    name_sizes,
)
from ungan_dist.report.conclusions import (
    list_caveats,
    list_limits,
    list_not_tested,
    write_conclusions,
    write_failure,
)
from ungan_dist.report.earlier import EXPLANATION, describe_earlier
from ungan_dist.report.explanations import explain_table
from ungan_dist.report.looks import describe_looks
from ungan_dist.report.power import describe_power
from ungan_dist.report.relearning import describe_relearning
from ungan_dist.report.stages import describe_stages


def render_markdown(report: Report) -> str:
    """Render the table, its conclusions and its caveats as Markdown."""
    blocks = [f"# {escape(report.title)}: what was forgotten", _origin(report)]
    if report.status == "PARTIAL":
        blocks.append(
            "\n".join(f"> {line}" for line in (f"**{escape(report.status)}.** Missing:", "", *_list(report.missing)))
        )
    if report.rows:
        blocks += [
            "\n".join(
                [
                    *(
                        f"- **{escape(one.titles)}** ({escape(one.outcome)}). {escape(one.sentence)}"
                        for one in write_conclusions(report)
                    ),
                    *(f"- **{escape(row.title)}.** {escape(write_failure(row))}" for row in report.failed_rows),
                ]
            ),
            render_table(report),
            " ".join(
                [f"{PAPER_GROUP}: {PAPER_NOTE}. All shares in per cent.", *map(escape, explain_omitted_columns(report))]
            ),
        ]
    else:
        blocks.append("No method has been scored yet.")
    if caveats := [*filter(None, [describe_power(report)]), *describe_looks(report), *list_caveats(report)]:
        blocks.insert(2, "\n".join(_list(caveats)))
    blocks += [
        "\n".join(_list([*explain_table(report), *list_limits(report)])),
        "\n".join(["Not tested:", "", *_list(list_not_tested(report))]),
    ]
    if earlier := describe_earlier(report):
        blocks.insert(-1, "\n".join(_list([*earlier, EXPLANATION])))
    if relearning := describe_relearning(report):
        blocks.insert(-1, "\n".join(_list(relearning)))
    if stages := describe_stages(report):
        blocks.insert(-1, "\n".join(_list(stages)))
    if report.shadow_quality:
        quality = [f"{name.replace('_', ' ')}: {value:.3f}" for name, value in sorted(report.shadow_quality.items())]
        blocks.append(
            "\n".join(["Checks of the attack itself (1 is perfect separation, .5 is chance):", "", *_list(quality)])
        )
    files = report.forget_files or ["none"]
    blocks.append("\n".join(["Files that still hold forget data, relative to the output folder:", "", *_list(files)]))
    return "\n\n".join(blocks) + "\n"


def _origin(report: Report) -> str:
    sizes = ", ".join(f"{escape(name)} {size:,}" for name, size in name_sizes(report).items())
    return f"Recipe {escape(report.recipe)}, run {escape(report.run_hash)}. {sizes}."


def render_table(report: Report) -> str:
    """Render the table of results."""
    found = build_columns(report)
    headings = [name_column(column) for column in found]
    lines = [
        ["Method", *headings],
        [":---", *["---:"] * len(found)],
        *([escape(row.title), *(escape(column.cell(row)) for column in found)] for row in report.rows),
        *(
            [row.title, *(row.outcome if one.heading == "Verdict" else "–" for one in found)]
            for row in report.failed_rows
        ),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(items: list[str]) -> list[str]:
    return [f"- {escape(item)}" for item in items]


def escape(text: str) -> str:
    """Escape text, so that Markdown shows it as it is written, on one line."""
    text = re.sub(r"([\\`*_\[\]|~#$@])", r"\\\1", " ".join(text.split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
