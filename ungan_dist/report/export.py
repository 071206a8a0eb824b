"""The table of a report as CSV, LaTeX, Markdown or Parquet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence

from ungan_dist.attack.evidence import Report
from ungan_dist.attack.flat import flatten_rows
from ungan_dist.report.cells import build_columns, name_column
from ungan_dist.report.markdown import escape, render_table


def export_table(report: Report, form: str) -> bytes:
    """Export the rows of a report.

    CSV and Parquet have numbers in full, one column for each bound. LaTeX and Markdown have the texts of the report.

    Args:
        report: the report.
        form: one of ``FORMS``.
    """
    return FORMS[form](report)


def to_csv(records: Sequence[Mapping[str, str | float | int | None]]) -> str:
    """Write flat records as CSV; None is an empty cell, and no text is a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    lines = [list(records[0]) if records else [], *(record.values() for record in records)]
    # a carriage return alone is not quoted, and would end the line
    writer.writerows(
        [defuse_formula(cell).replace("\r", " ") if isinstance(cell, str) else cell for cell in line] for line in lines
    )
    return stream.getvalue()


def defuse_formula(text: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would compute; texts of numbers stay as they are.

    Examples:
        >>> [defuse_formula(text) for text in ("=1+1", "@SUM(A1)", "-cmd", "-0.5", "UnGAN")]
        ["'=1+1", "'@SUM(A1)", "'-cmd", '-0.5', 'UnGAN']
    """
    is_formula = text.startswith(_FORMULA) and not _NUMBER.fullmatch(text)
    return f"'{text}" if is_formula else text


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""Beginnings of cells that a spreadsheet takes for formulas, or may skip before one."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def to_latex(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table for the package booktabs.

    Examples:
        >>> print(to_latex(["Method", "AUC"], [["CF-k", "0.512 ± 0.010"]]))
        \\begin{tabular}{lr}
        \\toprule
        Method & AUC \\\\
        \\midrule
        CF-k & 0.512 {\\scriptsize $\\pm$ 0.010} \\\\
        \\bottomrule
        \\end{tabular}
        <BLANKLINE>
    """
    lines = [[_write_cell(cell) for cell in row] for row in rows]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{l{'r' * (len(headings) - 1)}}}",
            "\\toprule",
            f"{' & '.join(map(escape_latex, headings))} \\\\",
            "\\midrule",
            *(f"{' & '.join(line)} \\\\" for line in lines),
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def escape_latex(text: str) -> str:
    """Escape text, so that LaTeX shows it as it is written.

    Examples:
        >>> print(escape_latex("50 % of D_f ≥ −δ"))
        50 \\% of D\\_f $\\geq$ $-$$\\delta$
    """
    return re.sub(r"[\\~^&%$#_{}−±≥δ–·]", lambda found: _SYMBOLS.get(found[0], f"\\{found[0]}"), text)


_SYMBOLS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "δ": r"$\delta$",
    "–": "--",
    "·": r"$\cdot$",
}


def _write_cell(text: str) -> str:
    value, _, around = text.partition(" ")
    if value and around.startswith(("±", "[")):
        return f"{escape_latex(value)} {{\\scriptsize {escape_latex(around)}}}"
    # a bracket after a line's end would be its option
    return escape_latex(text) if not text.startswith("[") else f"{{{escape_latex(text)}}}"


def _export_csv(report: Report) -> bytes:
    return to_csv(flatten_rows(report)).encode()


def _export_latex(report: Report) -> bytes:
    columns = build_columns(report) if report.rows else []
    rows = [[row.title, *(column.cell(row) for column in columns)] for row in report.rows]
    rows += [
        [row.title, *(row.outcome if column.heading == "Verdict" else "–" for column in columns)]
        for row in report.failed_rows
    ]
    return to_latex(["Method", *map(name_column, columns)], rows).encode()


def _export_markdown(report: Report) -> bytes:
    return f"{render_table(report)}\n".encode() if report.rows else escape("No method has been scored yet.").encode()


def _export_parquet(report: Report) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(flatten_rows(report)), stream)
    return stream.getvalue()


FORMS: dict[str, Callable[[Report], bytes]] = {
    "csv": _export_csv,
    "latex": _export_latex,
    "markdown": _export_markdown,
    "parquet": _export_parquet,
}
"""Formats by name."""
