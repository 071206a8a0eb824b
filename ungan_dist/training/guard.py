"""Guard what the units of one process share from the user's code: the data, models, and settings of the process."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from ungan_dist.data.examples import Examples
from ungan_dist.data.prepared import open_examples
from ungan_dist.training.engines.slot import open_slot
from ungan_dist.training.rehearsal.side_effects import changed_names, state_of, watch_settings

_HASHES: Any = WeakIdKeyDictionary()
"""Images → their hash, computed once for each data set that a process opens."""


class SharedStateChanged(ValueError):
    """The user's code changed in place what other units of its process read."""


@contextlib.contextmanager
def guarded(
    subject: str,
    data: Examples,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    models: Mapping[str, nn.Module] | None = None,
    notes: list[str] | None = None,
) -> Iterator[None]:
    """Refuse a block that changes the data, the tensors, the models, or settings of the process.

    Settings are restored. After a change of tensors, this process opens its data anew. A block that raises is checked
    too.

    Args:
        subject: names the user's code; the subject of the message.
        data: what all units of the process share.
        tensors: further tensors by name.
        models: models by name.
        notes: receives changes of settings for speed, which are then kept: see ``watch_settings``.

    Raises:
        SharedStateChanged: tensors were changed.
        ValueError: a setting was changed.
    """
    watched = {"request.data.labels": data.labels, "request.data.table": data.table, **(tensors or {})}
    saved = {name: tensor.clone() for name, tensor in watched.items()}
    states = {name: state_of(model) for name, model in (models or {}).items()}
    images = data.images if isinstance(data.images, Tensor) else None
    known = None if images is None else _known_hash(images)

    def check(cause: Exception | None = None) -> None:
        changed = [name for name, tensor in watched.items() if not torch.equal(tensor, saved[name])]
        for name, model in (models or {}).items():
            changed += [f"{one} of {name}" for one in changed_names(states[name], model)[:1]]
        if images is not None and _hash(images) != known:
            changed.append("request.data.images")
        if changed:
            open_examples.cache_clear()
            open_slot.cache_clear()
            raise SharedStateChanged(
                f"{subject} changed {', '.join(changed)} in place, which others read too, so nothing of its result "
                f"was kept: change a copy, such as labels.clone()"
            ) from cause

    try:
        with watch_settings(subject, notes=notes):
            yield
    except SharedStateChanged:  # by a guard within this one
        raise
    except Exception as error:
        check(error)
        raise
    check()


def _known_hash(images: Tensor) -> str:
    if images not in _HASHES:
        _HASHES[images] = _hash(images)
    return _HASHES[images]


def _hash(images: Tensor) -> str:
    pixels = images.detach().cpu().contiguous().numpy()
    return hashlib.blake2b(pixels.data, key=str(pixels.shape).encode()).hexdigest()
