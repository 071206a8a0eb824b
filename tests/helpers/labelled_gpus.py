"""Workers of a Ray cluster whose logical GPUs have a type by their node's label; they compute on the CPU."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from ungan_dist.cluster.fleet import ACCELERATOR
from ungan_dist.kernels.self_check import Verdict
from ungan_dist.runs.kernel_choice.judging import Judged, JudgeTask

CAPABILITIES = {"A100": (8, 0), "H200": (9, 0), "B200": (10, 0)}
FAST = Verdict(choice="fused", reason="right, and 2.00 ×", error=1e-7, budget=1e-5, ratio=2.0, interval=(1.9, 2.1))
SLOW = dataclasses.replace(FAST, choice="reference", reason="not above 1.1", ratio=1.0, interval=(0.9, 1.1))


def describe(kind: str) -> str:
    """Describe a GPU as ``describe_gpu`` does."""
    major, minor = CAPABILITIES[kind]
    return f"{kind}, sm_{major}{minor}"


def judge(task: JudgeTask, fast_on: tuple[str, ...], notes: Path) -> list[Judged]:
    """Find every operation faster fused on some types, and note the GPUs that the call has."""
    resources = ray.get_runtime_context().get_assigned_resources()
    (kind,) = (name.removeprefix(ACCELERATOR) for name in resources if name.startswith(ACCELERATOR))
    with (notes / kind).open("a") as file:
        file.write(f"{resources['GPU']:g}\n")
    verdict = FAST if kind in fast_on else SLOW
    return [Judged(device=describe(kind), verdicts=(verdict,) * len(task.uses))]


@dataclass(frozen=True, kw_only=True)
class ExecuteOn:
    """Execute units as on a GPU of a type: what refuses it sees the GPU, and the rest computes on the CPU."""

    kind: str

    def __call__(self, unit: Any, on_progress: Any = None) -> Any:
        import pytest
        import torch

        from ungan_dist.runs import units

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "get_device_name", lambda index=None: self.kind)
            patch.setattr(torch.cuda, "get_device_capability", lambda index=None: CAPABILITIES[self.kind])
            for name in ("train_shadows", "train_target", "evaluate_shadows", "evaluate_target"):
                patch.setattr(units, name, _on_cpu(getattr(units, name)))
            return units.execute(unit, on_progress)


def _on_cpu(compute: Any) -> Any:
    def computed(unit: Any, *arguments: Any) -> Any:
        return compute(dataclasses.replace(unit, device="cpu"), *arguments)

    return computed
