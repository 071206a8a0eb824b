"""CI guards counts, not seconds: launches and operations are those in the committed results, memory is O(n + m)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

pytest.importorskip("triton")
import kernel_counts  # noqa: E402
import kernel_table  # noqa: E402

RESULTS = json.loads((ROOT / "benchmarks/results/kernels.json").read_text())
COMMITTED = {row["subject"]: row for row in RESULTS["counts"]}
SMALL = {
    "critic step, widths 128, batch 256": lambda impl: kernel_counts.critic_step(impl, 8, 5, "cpu"),
    "generator step, widths 128, batch 256": lambda impl: kernel_counts.generator_step(impl, 8, 5, "cpu"),
    "energy distance and gradients, 256 × 256 × 64": lambda impl: kernel_counts.energy_step(impl, 10, 6, "cpu"),
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
    """At small shapes: neither depends on the shape."""
    found = kernel_counts.count(SMALL[subject])
    for name in ("reference_operations", "fused_kernels", "fused_calls"):
        assert found[name] == COMMITTED[subject][name], name


def test_a_critic_step_takes_at_most_six_launches():
    """Five kernels, and the product with the arriving gradient."""
    assert COMMITTED["critic step, widths 128, batch 256"]["fused_kernels"] + 1 <= 6


def test_memory_of_the_energy_distance_grows_with_its_rows_and_not_with_pairs():
    small, large = (
        kernel_counts.count_fused(kernel_counts.energy_step("fused", size, 4, "cpu"))["fused_bytes"]
        for size in (64, 128)
    )
    assert large <= 4.2 * small  # rows double, and so may the parts that columns are dealt into, up to 8


def test_the_readme_holds_the_committed_table():
    assert kernel_table.table(RESULTS) in (ROOT / "README.md").read_text()
