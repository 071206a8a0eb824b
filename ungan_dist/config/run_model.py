"""A model of an earlier run as the original: ``--original RUN:METHOD``."""

from __future__ import annotations

import re
from typing import NamedTuple

from ungan_dist.config.methods import ROWS
from ungan_dist.config.own.functions import is_own

_FORM = re.compile(r"(?P<folder>.+?):(?P<method>\w[\w.]*(?::\w+)?)")


class RunModel(NamedTuple):
    """The models that a method made in a run, one for each audit seed."""

    folder: str
    method: str


def find_run_model(original: str | None) -> RunModel | None:
    """Return the run and the method that ``--original`` names; None for a file of weights.

    Examples:
        >>> find_run_model("runs/digits-0123abcd:ungan")
        RunModel(folder='runs/digits-0123abcd', method='ungan')
        >>> find_run_model("runs/first:mypackage.forget:my_method").method
        'mypackage.forget:my_method'
        >>> find_run_model("weights.pt") is None
        True
    """
    found = _FORM.fullmatch(original or "")
    if found is None or not (found["method"] in ROWS or is_own(found["method"])):
        return None
    return RunModel(found["folder"], found["method"])
