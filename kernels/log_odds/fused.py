"""The fused log-odds: one pass over the logits, with the running maximum and sum of an online softmax."""

# Annotations are not lazy here: torch reads an operation's schema from them, also through a type checker's wrapper.

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from ungan_dist.kernels.blocks import LOG_ODDS_CLASSES, LOG_ODDS_ROWS


@triton.jit
@no_type_check
def log_odds_kernel(logits, labels, log_odds, num_rows, batch, classes, ROWS: tl.constexpr, CLASSES: tl.constexpr):
    """Rows are (model, example); the true class is excluded from the running sum."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    is_row = rows < num_rows
    label = tl.load(labels + rows % batch, mask=is_row, other=0)
    largest = tl.full([ROWS], float("-inf"), dtype=tl.float32)
    total = tl.zeros([ROWS], dtype=tl.float32)
    true = tl.full([ROWS], float("nan"), dtype=tl.float32)
    for start in range(0, classes, CLASSES):
        columns = start + tl.arange(0, CLASSES)
        inside = is_row[:, None] & (columns < classes)[None, :]
        z = tl.load(logits + rows[:, None] * classes + columns[None, :], mask=inside, other=float("-inf"))
        z = z.to(tl.float32)
        is_true = columns[None, :] == label[:, None]
        holds = (label >= start) & (label < start + CLASSES) & (label < classes)
        true = tl.where(holds, tl.sum(tl.where(is_true, z, 0.0), 1), true)
        z = tl.where(is_true, float("-inf"), z)
        # NaN is no larger than anything: it reaches the sum through exp, not through the maximum.
        higher = tl.max(tl.where(z != z, float("-inf"), z), 1)
        higher = tl.where(higher > largest, higher, largest)
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        shift = tl.where(higher == float("inf"), 0.0, shift)
        total = total * tl.exp(tl.where(largest == float("-inf"), 0.0, largest - shift))
        total += tl.sum(tl.exp(z - shift[:, None]), 1)
        largest = higher
    shift = tl.where((largest == float("-inf")) | (largest == float("inf")), 0.0, largest)
    tl.store(log_odds + rows, true - (shift + tl.log(total)), mask=is_row)


@torch.library.custom_op("ungan_dist::log_odds", mutates_args=())
def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the log-odds; not differentiable, so a backward pass raises."""
    logits, labels = logits.contiguous(), labels.contiguous()
    _, batch, classes = logits.shape
    out = logits.new_empty(logits.shape[:-1], dtype=torch.float32)
    log_odds_kernel[triton.cdiv(out.numel(), LOG_ODDS_ROWS),](
        logits, labels, out, out.numel(), batch, classes, ROWS=LOG_ODDS_ROWS, CLASSES=LOG_ODDS_CLASSES
    )
    return out


@log_odds.register_fake
def _(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.new_empty(logits.shape[:-1], dtype=torch.float32)
