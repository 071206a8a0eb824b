"""Draw the verdicts of a run as an SVG that suits light and dark pages, from ``results/NAME.json``."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from ungan_dist.attack.verdicts import LOST
from ungan_dist.report.cells import style_of

WIDTH, ROW, TOP, BOTTOM = 830, 27, 44, 52
AXIS = (225, 620)
"""Left and right end of the axis, in pixels."""
STYLE = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: #24292f }
  .small { font-size: 12px; fill: #57606a }
  .band { fill: #1f7a4d; fill-opacity: .12 }
  .line { stroke: #8c959f; stroke-width: 1 }
  .grid { stroke: #8c959f; stroke-opacity: .3; stroke-width: 1 }
  .equivalent { fill: #1f7a4d; stroke: #1f7a4d } .under-forgotten { fill: #b3362f; stroke: #b3362f }
  .over-forgotten { fill: #8a3fa8; stroke: #8a3fa8 } .inconclusive { fill: #8a6100; stroke: #8a6100 }
  .utility-lost { fill: #8a6100; stroke: #8a6100 }
  .reference, .no-power { fill: #4b6078; stroke: #4b6078 }
  text.equivalent, text.under-forgotten, text.over-forgotten, text.inconclusive { stroke: none }
  text.reference, text.utility-lost, text.no-power { stroke: none }
  .interval { stroke-width: 2.5; stroke-linecap: round }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9da7b3 } .band { fill: #62c795; fill-opacity: .16 }
    .equivalent { fill: #62c795; stroke: #62c795 } .under-forgotten { fill: #f0847c; stroke: #f0847c }
    .over-forgotten { fill: #cf96e6; stroke: #cf96e6 } .inconclusive { fill: #e0b44c; stroke: #e0b44c }
    .utility-lost { fill: #e0b44c; stroke: #e0b44c }
    .reference, .no-power { fill: #9db4cc; stroke: #9db4cc }
  }
"""


def figure(results: Mapping[str, Any]) -> str:
    """Draw each method's gap in AUC to Retrain with its 90 % interval, the margin δ and the verdict."""
    run = results["table"]
    rows, delta = run["rows"], run["delta"]
    gaps = [row["verdict"]["gap"] for row in rows if row["verdict"]["gap"]]
    step = 0.05 if max(gap["high"] for gap in gaps) > 0.08 else 0.02
    low = step * min(-1, round(min(-delta, *(gap["low"] for gap in gaps)) / step - 0.5))
    high = step * round(max(delta, *(gap["high"] for gap in gaps)) / step + 0.5)

    def x(value: float) -> float:
        return round(AXIS[0] + (value - low) / (high - low) * (AXIS[1] - AXIS[0]), 1)

    bottom = TOP + ROW * len(rows)
    parts = [
        f'<rect class="band" x="{x(-delta)}" y="{TOP - 6}" width="{round(x(delta) - x(-delta), 1)}" '
        f'height="{bottom - TOP + 6}"/>',
        _text(x(0), TOP - 18, f"equivalent: within ±{delta:g}", "small", "middle"),
        _text(AXIS[1], TOP - 18, "still looks like a member →", "small", "end"),
    ]
    for number in range(round(low / step), round(high / step) + 1):
        kind = "grid" if number else "line"
        parts.append(_line(x(number * step), TOP - 6, x(number * step), bottom, kind))
        parts.append(_text(x(number * step), bottom + 18, _signed(number * step), "small", "middle"))
    middle = (AXIS[0] + AXIS[1]) / 2
    parts.append(_text(middle, bottom + 40, "gap in attack AUC to Retrain, 90 % interval", "small", "middle"))
    for number, row in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        outcome, gap = row["verdict"]["outcome"], row["verdict"]["gap"]
        parts.append(_text(AXIS[0] - 16, y + 5, row["title"], "", "end"))
        kind = style_of(outcome)
        utility = f", {row['utility']}" if row["utility"] and outcome != LOST else ""
        parts.append(_text(AXIS[1] + 16, y + 5, f"{outcome}{utility}", kind, "start"))
        if gap:
            parts.append(_line(x(gap["low"]), y, x(gap["high"]), y, f"interval {kind}"))
        parts.append(f'<circle class="{kind}" cx="{x(gap["mean"] if gap else 0)}" cy="{y}" r="4.5"/>')
    name = escape(f"Verdicts of the run {run['recipe']} on {run['title']}")
    body = "\n".join(f"  {part}" for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + BOTTOM}" role="img" '
        f'aria-label="{name}">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if round(value, 9) else "0"


def _text(x: float, y: float, words: str, kind: str, anchor: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'
