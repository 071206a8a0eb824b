"""What a notebook shows of a report: a table, a data frame, and figures on Matplotlib axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from ungan_dist.attack.forgotten import ForgottenExample, rank_forgotten
from ungan_dist.attack.summary import to_html

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ungan_dist.attack.evidence import Evidence, Report


class Notebook:
    """The methods of a report for notebooks. Each figure is drawn on ``ax``; by default on new axes of pyplot."""

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas DataFrame, one method a line.

        An interval is three columns: its mean under its name, ``NAME_low`` and ``NAME_high``. Shares are in [0, 1].

        Examples:
            >>> table = report.to_dataframe()  # doctest: +SKIP
            >>> table.set_index("method").loc["ungan", ["auc", "auc_low", "auc_high"]]  # doctest: +SKIP
        """
        import pandas

        from ungan_dist.attack.flat import flatten_rows

        return pandas.DataFrame(flatten_rows(self._report))

    def least_forgotten(self, method: str, n: int = 10) -> list[ForgottenExample]:
        """Return the forget examples that still look most like members to a method's models, with their scores.

        The result names examples, so it is personal data.

        Args:
            method: the method's name on the command line, for example ``"ungan"``.
            n: number of examples.

        Raises:
            ValueError: there is no such method, or the audit is quick and has no scores of single examples.

        Examples:
            >>> pandas.DataFrame(report.least_forgotten("ungan", 5))  # doctest: +SKIP
        """
        return rank_forgotten(self._report.evidence, method)[:n]

    def most_forgotten(self, method: str, n: int = 10) -> list[ForgottenExample]:
        """Return the forget examples that look least like members, as ``least_forgotten`` does.

        Examples:
            >>> [one.example for one in report.most_forgotten("ungan", 5)]  # doctest: +SKIP
        """
        return rank_forgotten(self._report.evidence, method)[::-1][:n]

    def plot_gaps(self, ax: Axes | None = None) -> Axes:
        """Plot the gap of each row in LiRA's AUC, with its interval and the band (−δ, δ)."""
        from ungan_dist.attack.plots import draw_gaps

        axes = _make_axes(6.4, 1.2 + 0.3 * len(self._report.rows)) if ax is None else ax
        draw_gaps(self._report, axes)
        return axes

    def plot_roc(
        self, ax: Axes | None = None, *, methods: list[str] | None = None, column: Literal["b", "b_flipped", "a"] = "b"
    ) -> Axes:
        """Plot the ROC of each method, the mean over its seeds, on logarithmic axes.

        Args:
            ax: the axes to draw on.
            methods: methods by their names on the command line; defaults to all rows.
            column: ``b`` compares forget examples with non-members. ``b_flipped`` turns the sign. ``a`` is the paper's.

        Raises:
            ValueError: a method is not in the report, or the report has no scores.
        """
        from ungan_dist.attack.plots import draw_roc

        evidence = self._find_evidence(methods)
        axes = _make_axes(4.8, 4.8) if ax is None else ax
        draw_roc(evidence, self._titles, axes, column=column)
        axes.legend(fontsize="small")
        return axes

    def plot_log_odds(self, method: str, ax: Axes | None = None) -> Axes:
        """Plot the log-odds of the four sets after one method, and of the forget set before.

        Raises:
            ValueError: the method is not in the report, or the report has no scores.
        """
        from ungan_dist.attack.plots import draw_log_odds

        self._find_evidence([method])
        axes = _make_axes(5.2, 3.4) if ax is None else ax
        # all methods share the limits of their axes
        draw_log_odds(self._find_evidence(None), self._titles, lambda name: axes if name == method else None)
        axes.legend(fontsize="small")
        return axes

    def plot_curve(self, method: str, loss: str | None = None, ax: Axes | None = None) -> Axes:
        """Plot a loss of one method per epoch or round, a thin line per seed and a bold mean.

        Args:
            method: the method's name on the command line.
            loss: name of the loss; defaults to the method's first.
            ax: the axes to draw on.

        Raises:
            ValueError: the method is not in the report, or has no such loss.
        """
        from ungan_dist.attack.plots import COLOURS, draw_curve

        evidence = self._find_evidence([method])[method]
        losses = list(dict.fromkeys(name for item in evidence for name in item.curves))
        if not losses or loss not in (None, *losses):
            raise ValueError(f"{method} has no loss {loss!r}; it has {', '.join(losses) or 'none'}")
        axes = _make_axes(4.4, 3.0) if ax is None else ax
        draw_curve(axes, evidence, loss or losses[0], colour=COLOURS[0])
        axes.set_title(self._titles[method])
        return axes

    def _repr_html_(self) -> str:
        return to_html(self._report)

    @property
    def _report(self) -> Report:
        return cast("Report", self)

    @property
    def _titles(self) -> dict[str, str]:
        return {row.method: row.title for row in self._report.rows}

    def _find_evidence(self, methods: list[str] | None) -> dict[str, list[Evidence]]:
        from ungan_dist.attack.plots import collect_evidence

        found = collect_evidence(self._report)
        wanted = list(found) if methods is None else methods
        # the report of a finished run that was only opened has times, and no scores
        scored = [method for method, items in found.items() if all(len(item.scores) for item in items)]
        unknown = [method for method in wanted if method not in scored]
        if unknown or not scored:
            there = ", ".join(scored) or "none"
            raise ValueError(f"the report has no scores of {', '.join(unknown) or 'any method'}; it has {there}")
        return {method: found[method] for method in wanted}


def _make_axes(width: float, height: float) -> Axes:
    """Make axes that a notebook shows by itself."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(width, height), layout="constrained")
    return axes
