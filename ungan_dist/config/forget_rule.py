"""What ``split.forget`` asks for: random examples, whole classes, a subclass, a list, or the hardest examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["random", "class", "list"]
KNOWN = "random, random=COUNT, class=NAME, classes=NAME,NAME or list"
GROUPS = ("class",)
"""Kinds that forget every training example of a group, and compare with never-seen examples of the same group."""


@dataclass(frozen=True, kw_only=True)
class ForgetRule:
    """A parsed ``split.forget``."""

    kind: Kind
    names: tuple[str, ...] = ()
    """Names or numbers of classes."""
    amount: float | None = None
    """Number of examples to forget; None if another field sets it."""

    @property
    def is_group(self) -> bool:
        """Whether a whole group is forgotten."""
        return self.kind in GROUPS


def parse_forget(text: str) -> ForgetRule:
    """Parse ``split.forget``.

    Raises:
        ValueError: There is no such rule, or its value does not fit.

    Examples:
        >>> parse_forget("classes=2,5").names, parse_forget("random=1").amount
        (('2', '5'), 1)
    """
    kind, equals, value = text.partition("=")
    names = tuple(name.strip() for name in value.split(","))
    if kind in ("random", "list") and not equals:
        return ForgetRule(kind=kind)
    if kind == "random" and value.isdecimal() and int(value) > 0:
        return ForgetRule(kind=kind, amount=int(value))
    if kind == "random" and equals:
        raise ValueError(
            f"split.forget {text!r} needs a number of examples, such as random=1: a fraction is set by "
            f"split.forget_fraction"
        )
    if kind in ("class", "classes"):
        # a name may hold a comma
        names = (value.strip(),) if kind == "class" else names
        if not all(names) or len(set(names)) != len(names):
            raise ValueError(f"split.forget {text!r} must name classes, each once: class=3, class=cat or classes=2,5")
        return ForgetRule(kind="class", names=names)
    raise ValueError(f"split.forget {text!r} is unknown; known: {KNOWN}")
