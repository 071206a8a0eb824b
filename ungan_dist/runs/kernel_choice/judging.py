"""Judge kernels on the device of this machine, in a process that may crash or hang."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ungan_dist.kernels.self_check import Verdict, judge
from ungan_dist.kernels.uses import KernelUse
from ungan_dist.runs.kernel_choice.cache import DeviceFacts, make_key, read_verdict, write_verdict
from ungan_dist.runs.operations import describe_gpu
from ungan_dist.worker_process import CallFailed, WorkerDied, WorkerProcess

LIMIT_S = 60.0
"""Seconds for one operation, with its compilation."""
START_S = 120.0
"""Seconds for the start of the process, with its imports."""
CPU = "the CPU, in Triton's interpreter"


def judge_use(use: KernelUse, device: str) -> Verdict:
    """Judge one operation in this process."""
    return judge(use.operation, use.shapes, torch.float32, device)


@dataclass(frozen=True, kw_only=True)
class JudgeTask:
    """Operations to judge on every kind of device of a machine; can be sent to a worker."""

    uses: tuple[KernelUse, ...]
    device: str
    """``cuda`` or ``cpu``."""
    limit_s: float = LIMIT_S
    judge: Callable[[KernelUse, str], Verdict] = judge_use
    """Judges one operation in the process of its own."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdicts on one kind of device, in the order of the task's uses."""

    device: str
    """Name and capability."""
    verdicts: tuple[Verdict, ...]


def judge_here(task: JudgeTask) -> list[Judged]:
    """Judge the operations of a task on this machine, once on each kind of device; nothing else may use it.

    A verdict is cached if the check came to its end. A crash, a hang or a failed start is a reason for the reference,
    and the next run tries again.
    """
    worker = _Process()
    try:
        judged = [
            Judged(
                device=facts.kind, verdicts=tuple(_judge_cached(worker, task, use, facts, name) for use in task.uses)
            )
            for name, facts in worker.describe_devices(task.device).items()
        ]
        return judged or [_refuse_all(task, "torch finds no GPU on the machine of the self-check")]
    except (WorkerDied, CallFailed, TimeoutError) as error:
        return [_refuse_all(task, f"the process of the self-check did not start: {error}")]
    finally:
        worker.stop()


def _refuse_all(task: JudgeTask, reason: str) -> Judged:
    verdict = Verdict(choice="reference", reason=reason)
    return Judged(device="unknown", verdicts=(verdict,) * len(task.uses))


def _judge_cached(worker: _Process, task: JudgeTask, use: KernelUse, facts: DeviceFacts, device: str) -> Verdict:
    key = make_key(use, facts)
    if (known := read_verdict(key)) is not None:
        return known
    try:
        verdict = worker.call(task.limit_s, task.judge, use, device)
    except WorkerDied as error:
        return Verdict(choice="reference", reason=f"{error} in the self-check of {use.operation}")
    except TimeoutError as error:
        return Verdict(choice="reference", reason=f"the self-check of {use.operation} gave {error}")
    except CallFailed as error:
        return Verdict(choice="reference", reason=f"the self-check of {use.operation} failed: {error}")
    if verdict.error is not None:  # the fused form ran; what kept it from running may be mended
        write_verdict(key, verdict)
    return verdict


class _Process:
    """A process for one call after another; after a crash or a hang the next call starts a new one."""

    def __init__(self) -> None:
        self._worker: WorkerProcess | None = None

    def call(self, limit_s: float, function: Callable[..., Verdict], *arguments: object) -> Verdict:
        return self._call(limit_s, function, *arguments)

    def describe_devices(self, device: str) -> dict[str, DeviceFacts]:
        """Return one device of each kind, by torch's name of it."""
        return self._call(START_S, describe_devices, device)

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _call(self, limit_s: float, function: Callable[..., object], *arguments: object):  # noqa: ANN202
        if self._worker is None:
            self._worker = WorkerProcess()
            self._wait(START_S, _import_kernels)
        return self._wait(limit_s, function, *arguments)

    def _wait(self, limit_s: float, function: Callable[..., object], *arguments: object):  # noqa: ANN202
        assert self._worker is not None
        try:
            self._worker.call(function, *arguments)
            if not self._worker.connection.poll(limit_s):
                raise TimeoutError(f"no result within {limit_s:g} s")
            return self._worker.receive()
        except (WorkerDied, TimeoutError):
            self.stop()
            raise


def _import_kernels() -> None:
    """Nothing more: unpickling this function has imported what a call needs."""


def describe_devices(device: str) -> dict[str, DeviceFacts]:
    """Return one device of each kind of this machine, by torch's name of it."""
    if device != "cuda":
        return {device: DeviceFacts(kind=CPU, driver="")}
    found: dict[str, DeviceFacts] = {}
    driver = Path("/proc/driver/nvidia/version")
    version = driver.read_text().splitlines()[0] if driver.exists() else "unknown"
    for index in range(torch.cuda.device_count()):
        facts = DeviceFacts(kind=describe_gpu(index), driver=version)
        if facts not in found.values():
            found[f"cuda:{index}"] = facts
    return found
