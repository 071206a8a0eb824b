"""Test a method of your own against the contract that all methods keep."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ungan_dist.config.methods.own import OwnMethodConfig
from ungan_dist.config.own.options import list_options
from ungan_dist.config.training import AugmentConfig, ModelConfig, TrainConfig
from ungan_dist.data.examples import Examples, gather, make_normalisation_table
from ungan_dist.data.seeds import seed_layers
from ungan_dist.methods import Request, Unlearned, run_method
from ungan_dist.training.models import build, frozen_copy
from ungan_dist.training.world import World

NUM_CLASSES = 5
SETS = ("retain", "forget", "unseen")


def make_request(
    *,
    seed: int = 0,
    num_forget: int = 11,
    dtype: torch.dtype = torch.float32,
    model: ModelConfig | None = None,
) -> Request:
    """Make a request of 26 retain, 9 unseen and 14 unused examples of 8 × 8 random pixels, in batches of 8.

    Args:
        seed: the request's seed; the examples and the models are the same for every seed.
        num_forget: size of the forget set.
        dtype: type of the weights and of the images.
        model: the classifier; defaults to a CNN of four channels.

    Examples:
        >>> request = make_request()
        >>> len(request.retain), len(request.forget), len(request.dataset(request.unseen))
        (26, 11, 9)
    """
    generator = np.random.default_rng(0)
    num_examples = 26 + num_forget + 9 + 14
    order = torch.from_numpy(generator.permutation(num_examples))
    retain, forget, unseen, _ = order.split([26, num_forget, 9, 14])
    images = generator.integers(0, 256, (num_examples, 8, 8, 1), dtype=np.uint8)
    original, fresh = (
        build(
            model or ModelConfig(width=4), channels=1, num_classes=NUM_CLASSES, seed=name, device=torch.device("cpu")
        ).to(dtype)
        for name in (0, 1)
    )
    return Request(
        original=frozen_copy(original),
        fresh=fresh,
        data=Examples(
            images=torch.from_numpy(images),
            labels=torch.arange(num_examples) % NUM_CLASSES,
            table=make_normalisation_table((0.5,), (0.25,), dtype),
            num_classes=NUM_CLASSES,
        ),
        retain=retain,
        forget=forget,
        unseen=unseen,
        train=TrainConfig(epochs=2, batch_size=8, augment=AugmentConfig(padding=1)),
        seed=seed,
        world=World(),
    )


def check_method(method: Callable[..., nn.Module | Unlearned], options: Any = None) -> None:
    """Check that a method keeps the contract of methods, on a small request and with a forget set of one example.

    The models, the data and the sets of the request are unmodified. The result is another model than the given ones,
    shares no memory with them, is in eval mode, has other weights than the original, and has finite outputs. The same
    seed gives the same bits, whatever the global generators of Python and NumPy hold.

    Args:
        method: a function that takes a ``Request``, and may take its options.
        options: an instance of the method's options; defaults to its defaults.

    Raises:
        AssertionError: the method breaks the contract; the message says how.

    Examples:
        >>> from ungan_dist.methods.fine_tuning import fine_tuning
        >>> check_method(fine_tuning)
        >>> check_method(lambda request: request.copy_original())
        Traceback (most recent call last):
        AssertionError: the weights are those of the original: the method changed nothing
    """
    path = f"{method.__module__}:{method.__name__}"
    changed = () if options is None else list_options(path, options)
    config = OwnMethodConfig(path=path, options=changed, function=method)
    for num_forget in (11, 1):
        request = make_request(num_forget=num_forget)
        before = copy.deepcopy(request)
        first = _run(request, config)
        _check_request(request, before)
        _check_model(first, request)
        random.random()
        np.random.random()  # noqa: NPY002 - the states of these generators must not matter
        second = _run(make_request(num_forget=num_forget), config)
        for name, value in first.state_dict().items():
            _assert(
                _are_equal(value, second.state_dict()[name]),
                f"a second call with the same seed gave another {name}: draw from request.seed, or from torch's own "
                f"generator, which is seeded; not from those of Python and NumPy",
            )


def _run(request: Request, config: OwnMethodConfig) -> nn.Module:
    with seed_layers("check", request.seed):
        return run_method(request, config).model


def _check_request(request: Request, before: Request) -> None:
    for name in ("original", "fresh"):
        model, unmodified = getattr(request, name), getattr(before, name)
        for key, value in unmodified.state_dict().items():
            _assert(_are_equal(model.state_dict()[key], value), f"{key} of request.{name} was modified: copy it first")
        _assert(model.training == unmodified.training, f"the mode of request.{name} was changed: copy it first")
        for (key, now), earlier in zip(model.named_parameters(), unmodified.parameters(), strict=True):
            _assert(now.grad is None, f"{key} of request.{name} has a gradient: train a copy of it")
            _assert(now.requires_grad == earlier.requires_grad, f"requires_grad of {key} of request.{name} was changed")
    for name in SETS:
        _assert(torch.equal(getattr(request, name), getattr(before, name)), f"request.{name} was modified")
    for name in ("images", "labels", "table"):
        now, earlier = getattr(request.data, name), getattr(before.data, name)
        _assert(torch.equal(now, earlier), f"the data's {name} were modified")


def _check_model(model: nn.Module, request: Request) -> None:
    state, original = model.state_dict(), request.original.state_dict()
    _assert(set(state) == set(original), "the result has other layers than the original: its weights cannot be stored")
    given = {value.data_ptr() for one in (request.original, request.fresh) for value in one.state_dict().values()}
    for name, value in state.items():
        _assert(value.data_ptr() not in given, f"{name} shares its memory with a model of the request: copy the model")
    _assert(not any(one.training for one in model.modules()), "a layer is in training mode: call eval() on the model")
    _assert(
        not all(_are_equal(state[name], original[name]) for name, _ in model.named_parameters()),
        "the weights are those of the original: the method changed nothing",
    )
    with torch.no_grad():
        outputs = model(gather(request.data, torch.cat([request.retain, request.forget])))
    _assert(bool(outputs.isfinite().all()), "outputs are not finite: lower the learning rate")


def _are_equal(first: Tensor, second: Tensor) -> bool:
    return torch.equal(first, second)


def _assert(is_kept: bool, broken: str) -> None:
    if not is_kept:
        raise AssertionError(broken)
