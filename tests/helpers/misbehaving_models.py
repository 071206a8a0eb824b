"""Factories of models that an audit cannot use as they are, each with one fault of real user code."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import _get_current_dispatch_mode

GENERATOR = torch.Generator().manual_seed(0)


class Net(nn.Module):
    """Two layers on 8 × 8 grey images; the faults are in subclasses."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 16), nn.Linear(16, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return functional.relu(self.body(images.flatten(1)))

    def forward(self, images: Tensor) -> Any:
        return self.head(self.features(images))


class AlwaysDropping(Net):
    def forward(self, images: Tensor) -> Tensor:
        return self.head(functional.dropout(self.features(images), 0.3))


class NumpyNoise(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + float(np.random.normal())  # noqa: NPY002


class PythonNoise(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * random.uniform(0.5, 2)


class OwnGenerator(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits + torch.randn(logits.shape, generator=GENERATOR)


class ReadsWeights(Net):
    """Sound, but no step of it can be captured."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) / max(1.0, self.head.weight.abs().max().item())


class DiesWhenCaptured(Net):
    """Stands for a driver that crashes in a capture."""

    def forward(self, images: Tensor) -> Tensor:
        if _get_current_dispatch_mode() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


class Counting(Net):
    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images) / self.calls


class Alternating(Net):
    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images) + self.calls % 2 * torch.arange(self.head.out_features)


class RemembersTheFirst(Net):
    """Caches features by position, whatever is asked."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.cache: dict[torch.Size, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            return super().forward(images)
        return self.head(self.cache.setdefault(images.shape, self.features(images)))


class AveragesInEval(Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        with torch.no_grad():
            self.mean.lerp_(features.mean(0), 1e-6)
        return self.head(features - self.mean)


class CentresTheBatch(Net):
    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        return self.head(features - features.mean(0))


class CentresAfterTraining(Net):
    """Its head starts at zero, so the fault shows only after a step."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        return self.head(features - features.mean(0) if len(features) > 1 else features)


class Placed(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.arange(len(images))[:, None]


def without_statistics(num_classes: int) -> nn.Module:
    norm = nn.BatchNorm1d(16, track_running_stats=False)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), norm, nn.ReLU(), nn.Linear(16, num_classes))


class StaysInTraining(Net):
    """Overrides train() for one layer, so eval() does not reach it."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.drop = nn.Dropout()

    def train(self, mode: bool = True) -> StaysInTraining:
        super().train(mode)
        self.drop.train()
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.drop(self.features(images)))


class PlainList(Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.more = [nn.Linear(16, 16), nn.ReLU()]

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        for layer in self.more:
            features = layer(features)
        return self.head(features)


class PlainTensor(Net):
    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.projection = torch.randn(64, 64)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flatten(1) @ self.projection)


class HoldsItself(Net):
    """A lambda keeps using the first model's head in every copy."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.classify = lambda features: self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))


class CopiesAsItself(Net):
    def __deepcopy__(self, memory: dict[int, Any]) -> CopiesAsItself:
        return self


class NeedsGradient(Net):
    def forward(self, images: Tensor) -> Tensor:
        images = images.clone().requires_grad_()
        (slope,) = torch.autograd.grad(super().forward(images).sum(), images, create_graph=True)
        return super().forward(images) + slope.mean()


class Detached(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).detach()


class InPlace(Net):
    def forward(self, images: Tensor) -> Tensor:
        images -= 0.5
        return super().forward(images)


class SameMemory(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        if self.training:
            return logits
        if getattr(self, "out", None) is None or self.out.shape != logits.shape:
            self.out = torch.empty_like(logits)
        return self.out.copy_(logits)


class Whole(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).long()


class HalfOutputs(Net):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).bfloat16()


def half(num_classes: int) -> nn.Module:
    return Net(num_classes).half()


def bfloat16(num_classes: int) -> nn.Module:
    return Net(num_classes).bfloat16()


def on_meta(num_classes: int) -> nn.Module:
    return Net(num_classes).to("meta")


def one_output(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))


class Reseeds(Net):
    def forward(self, images: Tensor) -> Tensor:
        torch.manual_seed(0)
        return super().forward(images)


class SetsThreads(Net):
    def forward(self, images: Tensor) -> Tensor:
        torch.set_num_threads(3)
        return super().forward(images)


class SetsDeterminism(Net):
    def forward(self, images: Tensor) -> Tensor:
        torch.backends.cudnn.deterministic = True
        return super().forward(images)


class TurnsGradientsOff(Net):
    def forward(self, images: Tensor) -> Tensor:
        torch.set_grad_enabled(False)
        return super().forward(images)


def sets_default_dtype(num_classes: int) -> nn.Module:
    model = Net(num_classes)
    torch.set_default_dtype(torch.float64)
    return model


def fast_cudnn(num_classes: int) -> nn.Module:
    torch.backends.cudnn.benchmark = True
    return Net(num_classes)


class NoisyTraining(Net):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits * float(np.random.normal()) if self.training else logits  # noqa: NPY002


_ONE: list[nn.Module] = []


def always_the_same(num_classes: int) -> nn.Module:
    if not _ONE:
        _ONE.append(Net(num_classes))
    return _ONE[0]


def ever_wider(num_classes: int) -> nn.Module:
    _WIDTHS.append(8)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, len(_WIDTHS)), nn.Linear(len(_WIDTHS), num_classes))


_WIDTHS: list[int] = []


def numpy_weights(num_classes: int) -> nn.Module:
    model = Net(num_classes)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(np.random.default_rng().normal(size=model.head.weight.shape)))
    return model


def fixed_weights(num_classes: int) -> nn.Module:
    torch.manual_seed(0)
    return Net(num_classes)


def probabilities(num_classes: int) -> nn.Module:
    return nn.Sequential(Net(num_classes), nn.Softmax(1))


class Squeezing(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, num_classes, 8)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(images).squeeze()


def dropping(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, num_classes))


class Leaving(Net):
    def forward(self, images: Tensor) -> Tensor:
        os._exit(0)


class Killed(Net):
    def forward(self, images: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return images


class Crashing(Net):
    def forward(self, images: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGSEGV)
        return images


class Hanging(Net):
    def forward(self, images: Tensor) -> Tensor:
        time.sleep(1000)
        return images


def ends_when_built(num_classes: int) -> nn.Module:
    os._exit(0)


def kills_when_built(num_classes: int) -> nn.Module:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def hangs_when_built(num_classes: int) -> nn.Module:
    time.sleep(1000)
    raise AssertionError


class SlowByImage(Net):
    """Sound, but slow."""

    SECONDS = 0.02

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.SECONDS * len(images))
        return super().forward(images)


def instance_norm(num_classes: int) -> nn.Module:
    """Unusual, and in order."""
    norm = nn.InstanceNorm2d(4, affine=True)
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, num_classes))


def batch_norm(num_classes: int) -> nn.Module:
    """In order."""
    norm, end = nn.BatchNorm2d(4), nn.Linear(144, num_classes)
    return nn.Sequential(nn.Conv2d(1, 4, 3), norm, nn.ReLU(), nn.Dropout2d(), nn.Flatten(), end)


class Attending(Net):
    """Attention over the pixels of each image; in order."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.attend = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.attend(images.flatten(1).unflatten(1, (8, 8))))


class WithAutocast(Net):
    """Computes in bfloat16 inside, and returns float32; in order."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            logits = super().forward(images)
        return logits.float()
