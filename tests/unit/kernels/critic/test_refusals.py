"""Refuse operands and options that the adversarial losses cannot use."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import jaxtyping
import pytest
import torch
from critic_inputs import (
    make_batches,
    make_epsilon,
    make_weights,
)

from ungan_dist.kernels import CriticOptions, cramer_surrogate, critic_loss, generator_loss, gradient_penalty


@pytest.mark.usefixtures("compiled_kernels")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": [torch.zeros(0, 6)] * 3}, "at least one row"),
        ({"z": [torch.zeros(7, 6), torch.zeros(6, 6), torch.zeros(7, 6)]}, "z_forget must have z_unseen's shape"),
        ({"z": [torch.zeros(7, 4)] * 3}, r"layer 1 must have a matrix \[out, 4\]"),
        ({"weights": make_weights()[:4]}, "got 4 tensors"),
        ({"weights": [*make_weights()[:5], torch.zeros(9)]}, "layer 3"),
        ({"epsilon": torch.zeros(7)}, r"epsilon must be \[batch, 1\]"),
        ({"epsilon": torch.zeros(1, 1)}, r"epsilon must be \[batch, 1\]"),
        ({"surrogate": "energy"}, "z_unseen2 is needed only with"),
        ({"z_unseen2": torch.zeros(7, 6)}, "z_unseen2 is needed only with"),
        ({"surrogate": "energy", "z_unseen2": torch.zeros(6, 6)}, "z_unseen2 must have"),
        ({"penalty": "cubed"}, "penalty must be one of squared, as_written, got 'cubed'"),
        ({"penalty_of": "moon"}, "penalty_of must be one of"),
        ({"surrogate": "moon"}, "surrogate must be one of"),
        ({"estimator": "moon"}, "estimator must be one of"),
        ({"impl": "fused"}, "cannot run critic_loss.*not on a CUDA GPU"),
        ({"impl": "moon"}, "impl must be"),
        (
            {"z": [torch.zeros(7, 5)] * 3, "weights": [torch.zeros(5, 5), *make_weights()[1:]], "mix_labels": False},
            "got 5 columns",
        ),
        (
            {
                "z": [torch.zeros(1, 6)] * 3,
                "epsilon": torch.zeros(1, 1),
                "surrogate": "energy",
                "z_unseen2": torch.zeros(1, 6),
                "estimator": "all_pairs",
            },
            "at least 2 rows",
        ),
    ],
)
def test_unsuitable_operands_are_refused(change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production: only the package's checks
    change = {"weights": make_weights(), "z": make_batches(3), "epsilon": make_epsilon(), **change}
    w, z, mixing = (change.pop(name) for name in ("weights", "z", "epsilon"))
    options = {field.name: change.pop(field.name) for field in fields(CriticOptions) if field.name in change}
    with pytest.raises(ValueError, match=message):
        critic_loss(w, *z, mixing, CriticOptions(**options), **change)


@pytest.mark.usefixtures("compiled_kernels")
def test_the_other_operations_refuse_unsuitable_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    empty = [torch.zeros(0, 6)] * 3
    with pytest.raises(ValueError, match="at least one row"):
        cramer_surrogate(*empty)
    with pytest.raises(ValueError, match="at least one row"):
        generator_loss(make_weights(), *empty)
    with pytest.raises(ValueError, match="at least one row"):
        gradient_penalty(make_weights(), *empty, torch.zeros(0, 1))
    for call in (
        lambda: cramer_surrogate(*make_batches(3), impl="fused"),
        lambda: generator_loss(make_weights(), *make_batches(3), impl="fused"),
        lambda: gradient_penalty(make_weights(), *make_batches(3), make_epsilon(), impl="fused"),
    ):
        with pytest.raises(ValueError, match="use impl='reference'"):
            call()
