"""Log-odds of the true class under many models at once."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ungan_dist.kernels.impl import Impl, resolve
from ungan_dist.kernels.log_odds import reference


def log_odds(
    logits: Float[Tensor, "models batch classes"], labels: Int[Tensor, " batch"], *, impl: Impl = "auto"
) -> Float[Tensor, "models batch"]:
    """Return ``log(p / (1 − p))`` of the true class, ``z_y − logsumexp_{c≠y} z_c``: no probability rounds to 1.

    Args:
        logits: unnormalised scores, in nats; bfloat16 and half are computed in float32.
        labels: true classes, in ``[0, classes)``; ``fused`` gives NaN for a label outside, the reference raises.

    Raises:
        ValueError: fewer than two classes, where the odds are undefined, or shapes that do not fit.

    Source: Carlini et al. 2022; eq. 10 of the UnGAN paper.

    Examples:
        >>> log_odds(torch.tensor([[[2.0, 0.0]]]), torch.tensor([0]))
        tensor([[2.]])
    """
    if logits.ndim != 3 or logits.numel() == 0 or logits.shape[-1] < 2:
        raise ValueError(f"logits must be [models, batch, classes ≥ 2], none empty, got {list(logits.shape)}")
    if list(labels.shape) != [logits.shape[1]]:
        raise ValueError(f"labels must be [batch] = [{logits.shape[1]}], got {list(labels.shape)}")
    obstacle = None
    if logits.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        obstacle = f"it takes float32, bfloat16 or float16 logits, got {logits.dtype}"
    if resolve("log_odds", impl, logits.device, obstacle=obstacle).name == "fused":
        from ungan_dist.kernels.log_odds import fused

        return fused.log_odds(logits, labels)
    return reference.log_odds(logits, labels)
