"""The command line of a process of torchrun, which judges kernels as on a GPU, and notes what it judges and launches.

The kernels then run in Triton's interpreter, on the CPU.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from pathlib import Path
from typing import Any

from ungan_dist.cli import main
from ungan_dist.kernels.self_check import Verdict
from ungan_dist.runs import folder
from ungan_dist.runs.kernel_choice import choice
from ungan_dist.runs.kernel_choice.judging import Judged, JudgeTask
from ungan_dist.runs.plan import Plan, make_plan

FAST = Verdict(choice="fused", reason="right, and 2.00 ×", error=1e-7, budget=1e-5, ratio=2.0, interval=(1.9, 2.1))
SLOW = dataclasses.replace(FAST, choice="reference", reason="not above 1.1", ratio=1.0, interval=(0.9, 1.1))
NOTES, RANK = Path(os.environ["NOTES"]), os.environ["RANK"]


def judge_here(task: JudgeTask) -> list[Judged]:
    """Find the gather alone faster fused."""
    note("judged", RANK)
    verdicts = (FAST if use.operation == "gather_augmented" else SLOW for use in task.uses)
    return [Judged(device="a GPU", verdicts=tuple(verdicts))]


def settle_as_on_a_gpu(plan: Plan) -> Plan:
    """Settle the kernels of a plan for a GPU, and return it for the CPU."""
    kernels = choice.settle_kernels(_on("cuda", plan)).record.resolved["kernels"]
    return _on("cpu", plan, kernels=kernels)


def _on(device: str, plan: Plan, **more: Any) -> Plan:
    record = dataclasses.replace(plan.record, resolved=plan.record.resolved | {"device": device} | more)
    return make_plan(record.config, record=record, source=plan.source)


def note(name: str, line: str) -> None:
    with (NOTES / name).open("a") as file:
        file.write(f"{line}\n")


def note_launches() -> None:
    """Note the name of every kernel that this process launches."""
    from triton.runtime.interpreter import GridExecutor

    launch = GridExecutor.__call__

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        note(f"launched by {RANK}", self.fn.__name__)
        return launch(self, *arguments, **options)

    GridExecutor.__call__ = noted


if __name__ == "__main__":
    choice.judge_here = judge_here
    folder.open_run = functools.partial(folder.open_run, settle=settle_as_on_a_gpu)
    note_launches()
    sys.exit(main(sys.argv[1:]))
