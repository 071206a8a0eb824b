"""CI guards counts, not seconds: launches and operations are those in the committed results, memory is O(n + m)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "benchmarks"))

pytest.importorskip("triton")
import floors  # noqa: E402
import kernel_counts  # noqa: E402
from gpu_parts.table import format_table  # noqa: E402

from ungan_dist.kernels import critic_loss, energy_distance  # noqa: E402

RESULTS = json.loads((ROOT / "benchmarks/results/kernels.json").read_text())
COMMITTED = {row["subject"]: row["counts"] for row in RESULTS["rows"]}
SMALL = {
    "critic step, widths 128, batch 256": lambda impl: kernel_counts.critic_step(impl, 8, 5, "cpu"),
    "critic update with SGD, widths 128, batch 256": lambda impl: kernel_counts.critic_update(impl, 8, 5, "cpu"),
    "generator step, widths 128, batch 256": lambda impl: kernel_counts.generator_step(impl, 8, 5, "cpu"),
    "energy distance and gradients, 256 × 256 × 64": lambda impl: kernel_counts.energy_step(impl, 10, 40, "cpu"),
    "augmented batch, 64 × 32 × 32 × 3": lambda impl: kernel_counts.augment_step(impl, 2, "cpu"),
    "log-odds, 8 × 256 × 10": lambda impl: kernel_counts.log_odds_step(impl, 2, 3, 10, "cpu"),
}

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="launches are counted in the interpreter"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # numpy's, in the interpreter
]


def test_every_subject_is_counted():
    assert list(COMMITTED) == list(kernel_counts.SUBJECTS) == list(SMALL)


@pytest.mark.parametrize("subject", SMALL)
def test_launches_and_operations_are_those_committed(subject):
    """Small shapes suffice, because neither count depends on the shape."""
    found = kernel_counts.count(SMALL[subject])
    for name in ("reference_operations", "fused_kernels", "fused_calls"):
        assert found[name] == COMMITTED[subject][name], name


def test_a_critic_step_takes_at_most_six_launches():
    """Five kernels, and the product with the arriving gradient."""
    assert COMMITTED["critic step, widths 128, batch 256"]["fused_kernels"] + 1 <= 6
    assert COMMITTED["critic update with SGD, widths 128, batch 256"]["fused_kernels"] == 5


def test_memory_of_the_energy_distance_grows_with_rows_not_pairs():
    small, large = (
        kernel_counts.count_fused(kernel_counts.energy_step("fused", size, 4, "cpu"))["fused_bytes"]
        for size in (64, 128)
    )
    assert large <= 4.2 * small  # rows double, and so may the parts of the columns, up to 8


@pytest.fixture
def dots(monkeypatch):
    """Floating-point operations of every dot done in the interpreter."""
    from triton.runtime.interpreter import InterpreterBuilder

    done, original = [], InterpreterBuilder.create_dot

    def counted(self, a, b, *rest):
        done.append(2 * a.data.shape[0] * a.data.shape[1] * b.data.shape[1])
        return original(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", counted)
    return done


def test_the_floor_of_a_critic_step_equals_its_dots(dots):
    """No tile is padded with 32 features, widths of 32 and 128 stacked rows per span."""
    from fused_budget import critic_inputs

    weights, batches, epsilon = critic_inputs(128, 32, (32, 32, 32))
    leaves = [weight.float().requires_grad_() for weight in weights]
    loss = critic_loss(
        leaves, *(z.float() for z in (*batches, epsilon)), impl="fused"
    )  # fmt: skip
    loss.backward()
    assert sum(dots) == floors.critic_flops(128, 32, (32, 32, 32))


@pytest.mark.parametrize("backward", [False, True])
def test_the_floor_of_the_energy_distance_is_no_more_than_its_dots(dots, backward):
    """Tiles on the diagonal are whole, and the gradient takes both triangles."""
    x, y = (torch.randn(128, 48, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    value = energy_distance(x.requires_grad_(backward), y.requires_grad_(backward), impl="fused")
    if backward:
        value.backward()
    assert 1 <= sum(dots) / floors.energy_flops(128, 128, 48, backward=backward) < 2


def test_a_measured_row_has_its_fraction_of_the_floor():
    row = {
        "part": "operations", "subject": "critic step", "rival": "eager", "rival_ms": 8.0, "ours_ms": 0.5,
        "ratio": 16.0, "interval": [15, 17], "num_pairs": 20, "error": 1e-6, "floor_ms": 0.05,
    }  # fmt: skip
    header, _, with_times, without = format_table([row, {"part": "operations", "subject": "b"}]).splitlines()[4:]
    assert with_times == "| critic step | eager | 8.000 | 0.500 | 16.00 [15.00, 17.00] | 1.0e-06 | 10% |  |"
    assert header.count("|") == with_times.count("|") == without.count("|")
