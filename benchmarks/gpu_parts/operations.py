"""Time the fused operations beside their rivals, each as it would be used at best: in a CUDA graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from floors import TF32_PRODUCTS, bytes_per_s, critic_flops, energy_flops, flops_per_s
from harness import peak_bytes
from kernel_steps import Step, augment_step, critic_step, critic_update, energy_step, generator_step, log_odds_step
from torch import Tensor

from gpu_parts.energy_rivals import RIVALS, value_and_gradients
from gpu_parts.session import Session
from gpu_parts.timing import captured, compare_for

CALLS = 10
"""Calls in each timing."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A fused step, its rivals by name, and the least time that its arithmetic or its bytes can take."""

    fused: Callable[[], Step]
    rivals: Mapping[str, Callable[[], Step]]
    """The first is the reference, from which the error is computed."""
    floor_s: float


def time_all(session: Session) -> None:
    """Append one row for each pair of a fused operation and a rival."""
    subjects = list_subjects(session)
    for place, (name, subject) in enumerate(subjects.items()):
        share = session.seconds_left / (len(subjects) - place)
        with session.attempt(name):
            _time_subject(session, name, subject, share)


def list_subjects(session: Session) -> dict[str, Subject]:
    """Return the operations at the shapes of UnGAN's recipes, by title."""
    device, batch = session.device, session.pick(256, 4)
    flops = flops_per_s(device, session.pick(8192, 64)) / TF32_PRODUCTS
    rate = bytes_per_s(device, session.pick(2**30, 2**16))
    found: dict[str, Subject] = {}
    for width in session.pick((128, 256), (8,)):
        floor = critic_flops(batch, 20, (width, width, width)) / flops
        step, update, move = (
            partial(make, width=width, batch=batch, device=device)
            for make in (critic_step, critic_update, generator_step)
        )
        found[f"critic update, widths {width}"] = _of(update, floor)
        found[f"generator step, widths {width}"] = _of(move, floor)
        compiled = {"torch.compile": lambda step=step: torch.compile(step("reference"))}
        found[f"critic step, widths {width}"] = _of(
            step, floor, {"double backward": lambda step=step: step("definition")}, session.pick(compiled, {})
        )
    size, dim = session.pick((8192, 64), (10, 6))
    found[f"energy distance and gradients, {size} × {size} × {dim}"] = _of(
        partial(energy_step, size=size, dim=dim, device=device),
        energy_flops(size, size, dim, backward=True) / flops,
        {name: partial(value_and_gradients, value, size, dim, device) for name, value in RIVALS.items()},
    )
    pictures, models = session.pick((1024, 64), (3, 2))
    found[f"augmented batch, {pictures} × 32 × 32 × 3"] = _of(
        partial(augment_step, batch=pictures, device=device), pictures * 3072 * 5 / rate
    )
    found[f"log-odds, {models} × {pictures} × 100"] = _of(
        partial(log_odds_step, models=models, batch=pictures, classes=100, device=device),
        models * pictures * 101 * 4 / rate,
    )
    return found


def _of(make: Callable[..., Step], floor_s: float, *others: Mapping[str, Callable[[], Step]]) -> Subject:
    rivals: dict[str, Callable[[], Step]] = {"reference": lambda: make("reference")}
    for some in others:
        rivals |= some
    return Subject(fused=lambda: make("fused"), rivals=rivals, floor_s=floor_s)


def _time_subject(session: Session, name: str, subject: Subject, share: float) -> None:
    expected = subject.rivals["reference"]()()
    step = subject.fused()
    measured = {"error": relative_error(step(), expected), "floor_ms": subject.floor_s * 1e3}
    measured["peak_bytes"] = peak_bytes(step)
    ours = captured(step)
    budget = session.pick(max(0.5, share / (2 * len(subject.rivals))), 0.0)
    for rival_name, make in subject.rivals.items():
        with session.attempt(f"{name}, beside {rival_name}"):
            rival = make()
            rival_error = relative_error(rival(), expected)
            ratio = compare_for(budget, rival_name, captured(rival), ours, calls=session.pick(CALLS, 1))
            session.append(name, **dataclasses.asdict(ratio), **measured, rival_error=rival_error)


def relative_error(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Return the largest difference, relative to the largest entry of its tensor."""
    return max(
        float((ours.double() - theirs.double()).abs().max() / theirs.abs().max())
        for ours, theirs in zip(found, expected, strict=True)
    )
