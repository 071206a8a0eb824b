"""A user's training function that takes its time without a processor, as on a GPU: PAUSE seconds for each model.

While the file exists that KILL names, its process is killed, as by the kernel where memory runs out.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader


def fit(
    model: nn.Module, dataset: Any, *, seed: int, device: torch.device, on_progress: Callable[[int, int], None]
) -> nn.Module:
    loader = DataLoader(dataset, batch_size=50, shuffle=True, generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    dataset.set_epoch(0)
    for images, labels in loader:
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    if os.path.exists(os.environ.get("KILL", "")):
        os.kill(os.getpid(), signal.SIGKILL)
    pause = int(os.environ.get("PAUSE", "0"))
    for second in range(pause):
        time.sleep(1)
        on_progress(second + 1, pause)
    return model
