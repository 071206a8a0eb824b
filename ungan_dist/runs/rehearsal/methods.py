"""Take one step of every chosen method on a few examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ungan_dist.config.methods import OwnMethodConfig
from ungan_dist.config.user_code import run_user_code
from ungan_dist.data.seeds import seed_layers
from ungan_dist.methods import Request, guard_request, run_method
from ungan_dist.training.engines.capture import CapturedSteps
from ungan_dist.training.models import frozen_copy
from ungan_dist.training.rehearsal.side_effects import changed_names, state_of
from ungan_dist.training.rehearsal.steps import MAX_BATCH, shorten_training, smallest_batch


def rehearse_methods(
    request: Request,
    methods: Mapping[str, Any],
    *,
    num_retain: int,
    num_forget: int,
    begin: Callable[[str], object] = str,
) -> None:
    """Run every method for one epoch of the smallest batches that its sets will give it.

    Args:
        request: what the methods will receive, with a few examples of each set.
        methods: the methods and their options.
        num_retain: size of the whole retain set.
        num_forget: size of the whole forget set.
        begin: receives the name of each step before it is done; by default nothing does.

    Raises:
        ValueError: a method cannot work with the model, or changes the original.
    """
    before = state_of(request.original)
    for method, options in methods.items():
        if request.train.function is not None and method in ("original", "retrain"):
            continue  # the function was called before, with more examples
        sizes = {request.train.batch_size, *_batch_sizes(options)}
        retain, forget = (
            min(MAX_BATCH, *(smallest_batch(number, size) for size in sizes)) for number in (num_retain, num_forget)
        )
        short = dataclasses.replace(
            request,
            original=frozen_copy(request.original, request.rebuild),
            retain=request.retain[:retain],
            forget=request.forget[:forget],
            train=shorten_training(request.train, MAX_BATCH),
            steps=None if request.steps is None else CapturedSteps(request.data.device),
        )
        begin(f"one step of {method} with {retain} retain and {forget} forget example(s)")
        subject = f"the model cannot be given to {method}, with {retain} retain and {forget} forget example(s): it"
        with run_user_code(subject), guard_request(short, options), seed_layers(method, 0):
            run_method(short, _shorten(options))
    changed = changed_names(before, request.original)
    if changed:
        raise ValueError(
            f"unlearning a copy of the model changed {changed[0]} of the model itself: let its layers share no tensor "
            f"with others, in a global variable, a hook or a lambda"
        )


def _batch_sizes(options: Any) -> list[int]:
    settings = options.settings() if hasattr(options, "settings") else options
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return [value for name, value in values.items() if name.endswith("batch_size") and value]


def _shorten(options: Any) -> Any:
    """Return a method's options with one epoch and one step of each kind, or none where none was chosen."""
    settings = options.settings() if hasattr(options, "settings") else options
    names = [field.name for field in dataclasses.fields(settings if isinstance(options, OwnMethodConfig) else options)]
    values = {name: getattr(settings if hasattr(settings, name) else options, name) for name in names}
    fewer = {
        name: min(1, value)
        for name, value in values.items()
        if name.endswith(("epochs", "steps", "copies", "per_class")) and isinstance(value, int)
    }
    if isinstance(options, OwnMethodConfig):
        return dataclasses.replace(options, options=tuple((dict(options.options) | fewer).items()))
    return dataclasses.replace(options, **fewer)
