"""Definition of the log-odds."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def log_odds(
    logits: Float[Tensor, "models batch classes"], labels: Int[Tensor, " batch"]
) -> Float[Tensor, "models batch"]:
    if logits.dtype.itemsize < 4:
        logits = logits.float()
    index = labels.long().expand(logits.shape[:-1])[..., None]
    others = logits.scatter(-1, index, float("-inf")).logsumexp(-1)
    return logits.gather(-1, index)[..., 0] - others
