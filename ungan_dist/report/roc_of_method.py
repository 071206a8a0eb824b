"""One ROC figure per method: the mean over its seeds with a band, beside the original and the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from ungan_dist.attack.evidence import Evidence
from ungan_dist.attack.metrics import roc_curve
from ungan_dist.attack.plots import INK, rate_at, write_rates
from ungan_dist.report.drawing import Drawing, make_drawing, make_figure, slug

NUM_RATES_ALONE = 81
"""False positive rates of a curve in a method's own figure."""
BESIDE = {"original": (0, (1, 1.5)), "retrain": (0, (5, 2))}
"""Line styles of the rows that every method is shown beside."""

Rates = Float[np.ndarray, " rates"]


def draw_roc_of_methods(
    found: Mapping[str, Sequence[Evidence]], titles: Mapping[str, str], colours: Sequence[str]
) -> list[Drawing]:
    """Draw for each method the ROC of (b) and of (b) with the sign turned; the bands are the range over the seeds."""
    lowest = min(min(1 / len(e.non_members), 1 / len(e.forget)) for evidence in found.values() for e in evidence)
    grid = np.geomspace(min(lowest, 0.01), 1, NUM_RATES_ALONE)
    curves = {method: _curves(evidence, grid, sign=1) for method, evidence in found.items()}
    drawings: list[Drawing] = []
    for position, (method, evidence) in enumerate(found.items()):
        figure, axes = make_figure(4.6, 4.2)
        axes.plot(grid, grid, color=INK, linewidth=0.7, alpha=0.6)
        for other, dash in BESIDE.items():
            if other != method and other in curves:
                mean = _visible(curves[other].mean(0))
                axes.plot(grid, mean, color=INK, linewidth=1.3, linestyle=dash, label=titles[other])
        colour = colours[position % len(colours)]
        turned = _curves(evidence, grid, sign=-1)
        for rates, dash, label in ((curves[method], "-", titles[method]), (turned, "--", "sign turned")):
            if len(rates) > 1:
                low, high = (np.maximum(end, grid[0] / 2) for end in (rates.min(0), rates.max(0)))
                axes.fill_between(grid, low, high, color=colour, alpha=0.16, linewidth=0)
            width = 1.8 if dash == "-" else 1.0
            axes.plot(grid, _visible(rates.mean(0)), color=colour, linewidth=width, linestyle=dash, label=label)
        axes.set(xscale="log", yscale="log", xlim=(grid[0], 1), ylim=(grid[0], 1))
        axes.set(xlabel="false positive rate (never seen)", ylabel="true positive rate (forget)")
        write_rates(axes)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        band = f" The bands are the range over {len(evidence)} seeds." if len(evidence) > 1 else ""
        label = f"ROC of {titles[method]}, forget against never seen.{band}"
        drawings.append(make_drawing(figure, f"roc_of_{slug(method)}", "roc", label, method=method))
    return drawings


def _curves(evidence: Sequence[Evidence], grid: Rates, *, sign: int) -> Float[np.ndarray, "seeds rates"]:
    scores = [(sign * e.scores[e.forget], sign * e.scores[e.non_members]) for e in evidence]
    return np.stack([rate_at(*roc_curve(forget, rest), grid) for forget, rest in scores])


def _visible(rates: Rates) -> Rates:
    """Leave out zeros, which logarithmic axes cannot show."""
    return np.where(rates > 0, rates, np.nan)
