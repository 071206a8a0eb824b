"""Configs of the methods refuse invalid values and name the field and the value."""

from __future__ import annotations

from typing import Any

import pytest

from ungan_dist.config.methods import (
    AdvNegGradsConfig,
    CFkConfig,
    NegGradsConfig,
    RandomLabelsConfig,
    SCRUBConfig,
    UNSIRConfig,
)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (RandomLabelsConfig, "epochs", 0),
        (RandomLabelsConfig, "weight_decay", -0.1),
        (NegGradsConfig, "learning_rate", 0.0),
        (NegGradsConfig, "repair_epochs", -1),
        (AdvNegGradsConfig, "alpha", 1.0),
        (AdvNegGradsConfig, "alpha", 0.0),
        (CFkConfig, "k", 0),
        (UNSIRConfig, "noise_steps", -1),
        (UNSIRConfig, "noise_copies", 0),
        (UNSIRConfig, "repair_learning_rate", 0.0),
        (SCRUBConfig, "temperature", 0.0),
        (SCRUBConfig, "msteps", -1),
        (SCRUBConfig, "forget_batch_size", 0),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(kind: Any, field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{field} must .*got {value}"):
        kind(**{field: value})


def test_cf_k_with_nothing_left_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves nothing to train"):
        CFkConfig(k=1, train_classifier=False)


def test_unsir_variants_and_their_own_values() -> None:
    sample, by_class = UNSIRConfig().settings(), UNSIRConfig(variant="class").settings()
    assert (sample.optimizer, sample.noise_steps, sample.impair_epochs, sample.repair_epochs) == ("sgd", 5, 2, 1)
    assert (by_class.optimizer, by_class.noise_steps, by_class.impair_epochs) == ("adam", 40, 1)
    assert UNSIRConfig(variant="class", repair_epochs=0).settings().repair_epochs == 0
