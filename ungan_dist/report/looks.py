"""The path of an audit that is extended until it is decided: its looks, and what each left undecided."""

from __future__ import annotations

from ungan_dist.attack.evidence import Report
from ungan_dist.attack.looks import Look
from ungan_dist.config.methods import title_of

_ENDED = {
    "": "The run goes on with the next look",
    "decided": "Every row is decided, so the run ended",
    "looks": "This was the last look, so the run ended",
    "hours": "The hours of the budget are up, so the run ended",
}


def describe_looks(report: Report) -> list[str]:
    """Describe the looks of a report in sentences; empty for a report that is none."""
    path = report.stopping
    if path is None:
        return []
    made = path.looks[: path.index + 1]
    sentences = [f"Look {path.index + 1} of {len(path.looks)}, all stated before the first."]
    sentences += [f"Look {number}: {_describe(look)}." for number, look in enumerate(made, start=1)]
    sentences.append(
        f"{_ENDED[path.ended]}. The looks share the error of one audit, so the gaps have intervals of "
        f"{100 * made[-1].level:.4g} % here, and not of 90 %. The verdicts are those of this look."
    )
    if path.earlier:
        sentences.append(
            f"Earlier reports of this run ({'; '.join(path.earlier)}) were not stated as looks. If their verdicts led "
            f"to this one, the error rates are higher by those of these reports."
        )
    return sentences


def _describe(look: Look) -> str:
    size = f"{look.num_seeds} seeds, {look.num_shadows} shadow models"
    if look.undecided is None:
        return size
    if not look.undecided:
        return f"{size}, every row decided"
    return f"{size}, undecided: {', '.join(title_of(name) for name in look.undecided)}"
