"""RMIA equals the authors' own code, Privacy Meter, on arrays that it was run on: ``fixtures/privacy_meter.json``.

The file says how it was made. Nothing of their code is here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logit

from ungan_dist.attack.further import ReferenceModels, fit_reference_models, relative_membership

STORED: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures/privacy_meter.json").read_text())
TARGET, MEMBERSHIP = np.array(STORED["target"]), np.array(STORED["membership"], dtype=bool)
POPULATION = np.array(STORED["population"])
OTHERS = np.setdiff1d(np.arange(len(TARGET)), POPULATION)


def fit(*, offline: bool, a: float = 1 / 3) -> ReferenceModels:
    log_odds = logit(np.array(STORED["reference"]))[..., None]
    return fit_reference_models(log_odds, MEMBERSHIP, offline=offline, offline_a=a)


@pytest.mark.parametrize("case", STORED["paper"], ids=lambda case: f"offline {case['offline']}, γ {case['gamma']}")
def test_scores_are_those_of_the_papers_code(case: dict[str, Any]) -> None:
    mean = fit(offline=case["offline"]).confidence
    found = relative_membership(TARGET, mean, POPULATION, gamma=case["gamma"])
    theirs = np.array(case["scores"])
    np.testing.assert_allclose(found[OTHERS], theirs[OTHERS], rtol=0, atol=1e-6)
    assert len(np.unique(theirs[OTHERS])) > 2
    # To leave z = x out of the population, their code adds 1 to the number of dominated examples instead of taking off
    # the comparison with itself: with γ ≥ 1 its scores are too high by 1/(n - 1), with γ < 1 by 2/(n - 1), for all
    # examples of the population alike. Ours follow the paper's definition, which has no such comparison.
    excess = (2 if case["gamma"] < 1 else 1) / (len(POPULATION) - 1)
    np.testing.assert_allclose(found[POPULATION] + excess, theirs[POPULATION], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", STORED["package"], ids=lambda case: f"a {case['offline_a']:.2f}")
def test_offline_scores_are_those_of_the_package(case: dict[str, Any]) -> None:
    mean = fit(offline=True, a=case["offline_a"]).confidence
    found = relative_membership(TARGET, mean, POPULATION)
    np.testing.assert_allclose(found[OTHERS], case["scores"], rtol=0, atol=1e-6)


def test_a_run_uses_the_same_scores() -> None:
    """``score`` is what an audit calls: the same numbers from log-odds."""
    online = next(case for case in STORED["paper"] if not case["offline"] and case["gamma"] == 1.0)
    found = fit(offline=False).score(logit(TARGET)[:, None], POPULATION)["rmia"]
    np.testing.assert_allclose(found[OTHERS], np.array(online["scores"])[OTHERS], rtol=0, atol=1e-6)
