"""The self-check of every fused operation at the shapes of real runs: whether it is right, and whether it is faster."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import torch

from gpu_parts.session import Session
from ungan_dist.kernels.self_check import Verdict, judge
from ungan_dist.kernels.uses import KernelUse
from ungan_dist.runs.kernel_choice.judging import JudgeTask, judge_here

LIMIT_S = 20.0
"""Seconds for one operation, with its compilation."""


def check_all(session: Session) -> None:
    """Append the verdict of each operation; a crash or a hang of one costs its own row alone."""
    uses = list_uses(session)
    limit = session.pick(LIMIT_S, 120.0)
    judge_one = functools.partial(judge_and_append, session=session)
    task = JudgeTask(uses=tuple(uses.values()), device=session.device, limit_s=limit, judge=judge_one)
    for judged in judge_here(task):
        for name, verdict in zip(uses, judged.verdicts, strict=True):
            if verdict.error is None:  # it has not come to its end, in a process that could not append a row
                session.append(name, failed=verdict.reason, device=judged.device)


def list_uses(session: Session) -> dict[str, KernelUse]:
    """Return every operation at the shapes of the recipes ``paper`` and ``digits``, by title."""

    def listed() -> Iterator[tuple[str, str, dict[str, Any]]]:
        batch, width = session.pick(256, 4), session.pick(128, 8)
        critic = {"batch": batch, "features": session.pick(20, 6), "widths": [width] * 3}
        terms = {"penalty": "squared", "penalty_of": "critic", "penalty_weight": 10.0, "mix_labels": True}
        size = session.pick(1125, 6)
        picture = {"height": 32, "width": 32, "channels": 3, "batch": batch, "padding": 4, "flip": True}
        digit = {"height": 8, "width": 8, "channels": 1, "batch": session.pick(64, 4), "padding": 1, "flip": False}
        yield f"critic loss, widths {width}", "critic_loss", critic | terms
        yield f"critic update, widths {width}", "critic_sgd_step", critic | terms
        yield f"generator loss, widths {width}", "generator_loss", critic
        yield f"energy distance, {batch} × {batch} × {width}", "energy_distance", {"n": batch, "m": batch, "dim": width}
        yield (
            f"energy distance in one dimension, {size}",
            "energy_distance_1d",
            {"first": size, "second": session.pick(5000, 8), "groups": session.pick(10, 2)},
        )
        yield "augmented batch, CIFAR-10", "gather_augmented", picture | ({"batch": 3} if session.is_rehearsal else {})
        yield "augmented batch, digits", "gather_augmented", digit
        yield "log-odds", "log_odds", {"models": 1, "batch": session.pick(1024, 4), "classes": 10}

    return {name: KernelUse(operation=operation, shapes=shapes) for name, operation, shapes in listed()}


def judge_and_append(use: KernelUse, device: str, *, session: Session) -> Verdict:
    """Judge one operation in this process, and append its row; the rehearsal reads no clock."""
    verdict = judge(use.operation, use.shapes, torch.float32, device, _one if session.is_rehearsal else None)
    if verdict.error is not None:
        name = next(name for name, known in list_uses(session).items() if known == use)
        session.append(name, operation=use.operation, shapes=dict(use.shapes), **dataclasses.asdict(verdict))
    return verdict


def _one(call: object) -> float:
    return 1.0
