"""The fused log-odds against the definition in float64."""

from __future__ import annotations

import jaxtyping
import pytest
import torch
from fused_budget import assert_within_budget
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ungan_dist.kernels import log_odds
from ungan_dist.kernels.self_check.guards import guarded_buffers

# The interpreter's numpy warns of log 0 and ∞ − ∞ in padding rows, which are not stored, and in some tests.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def draw(models, batch, classes, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(models, batch, classes, generator=generator)
    return logits, torch.randint(0, classes, (batch,), generator=generator)


@pytest.mark.parametrize(("models", "batch", "classes"), [(1, 1, 2), (2, 16, 64), (3, 11, 10), (2, 5, 131)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 100.0])
def test_value(fused_device, models, batch, classes, scale):
    logits, labels = (tensor.to(fused_device) for tensor in draw(models, batch, classes, scale))
    with guarded_buffers():
        fused = log_odds(logits, labels, impl="fused")
    exact = log_odds(logits.double(), labels, impl="reference")
    assert_within_budget(fused, log_odds(logits, labels, impl="reference"), exact, "log-odds", magnitude=8 * scale)


@given(models=st.integers(1, 3), batch=st.integers(1, 20), classes=st.integers(2, 140), exponent=st.integers(-6, 6))
@settings(max_examples=15, derandomize=True, phases=[Phase.explicit, Phase.generate])
def test_any_shape_and_scale(models, batch, classes, exponent):
    if torch.cuda.is_available():
        pytest.skip("the parametrised cases run on CUDA")
    logits, labels = draw(models, batch, classes, 10.0**exponent)
    fused, low = (log_odds(logits, labels, impl=impl) for impl in ("fused", "reference"))
    exact = log_odds(logits.double(), labels, impl="reference")
    assert_within_budget(fused, low, exact, "log-odds", magnitude=float(8 * logits.abs().max()) + 5)


def test_strided_logits(fused_device):
    logits, labels = (tensor.to(fused_device) for tensor in draw(3, 8, 20))
    fused = log_odds(logits.transpose(0, 1)[:3, :, ::2], labels[:3] % 10, impl="fused")
    exact = log_odds(logits.transpose(0, 1)[:3, :, ::2].double(), labels[:3] % 10, impl="reference")
    torch.testing.assert_close(fused.double(), exact, rtol=1e-6, atol=1e-6)


def test_non_finite_values_propagate_as_in_the_definition(fused_device):
    logits, labels = (tensor.to(fused_device) for tensor in draw(1, 7, 70))
    logits[0, 0, 3] = float("nan")
    logits[0, 1] = float("-inf")
    logits[0, 2, (labels[2] + 1) % 70] = float("inf")
    logits[0, 3, labels[3]] = float("inf")
    logits[0, 4, labels[4]] = float("-inf")
    logits[0, 5, :60] = float("-inf")
    fused, exact = (log_odds(logits, labels, impl=impl) for impl in ("fused", "reference"))
    torch.testing.assert_close(fused, exact, equal_nan=True, rtol=1e-6, atol=1e-6)


def test_a_label_outside_the_classes_gives_nan(fused_device):
    logits, labels = (tensor.to(fused_device) for tensor in draw(2, 4, 10))
    labels[2] = 10
    fused = log_odds(logits, labels, impl="fused")
    assert fused[:, 2].isnan().all()
    assert fused[:, :2].isfinite().all()


def test_refusals(fused_device, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production: only the package's checks
    logits, labels = draw(2, 4, 10)
    with pytest.raises(ValueError, match="classes"):
        log_odds(logits[..., :1], labels, impl="fused")
    with pytest.raises(ValueError, match="labels"):
        log_odds(logits, labels[:3], impl="fused")
    with pytest.raises(ValueError, match="float64"):
        log_odds(logits.double(), labels, impl="fused")
    with pytest.raises(ValueError, match="none empty"):
        log_odds(logits[:, :0], labels[:0], impl="fused")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="bfloat16 is asserted on CUDA alone")
def test_bfloat16():
    logits, labels = (tensor.cuda() for tensor in draw(2, 16, 100))
    fused = log_odds(logits.bfloat16(), labels, impl="fused")
    exact = log_odds(logits.bfloat16().double(), labels, impl="reference")
    torch.testing.assert_close(fused.double(), exact, rtol=1e-5, atol=1e-5)
