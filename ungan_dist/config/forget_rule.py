"""What ``split.forget`` asks for: random examples, whole classes, a subclass, a list, or the hardest examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["random", "class", "subclass", "hardest", "easiest", "list"]
KNOWN = (
    "random, random=COUNT, class=NAME, classes=NAME,NAME, subclass=NAME, hardest=COUNT, easiest=COUNT (or a fraction) "
    "and list"
)
EXTREMES = ("hardest", "easiest")
"""Kinds that go by how much shadow models memorise an example."""


@dataclass(frozen=True, kw_only=True)
class ForgetRule:
    """A parsed ``split.forget``."""

    kind: Kind
    names: tuple[str, ...] = ()
    """Names or numbers of classes."""
    amount: float | None = None
    """Number of examples to forget, or a fraction of D below 1; None if another field sets it."""

    @property
    def is_class(self) -> bool:
        """Whether whole classes are forgotten, whose number of examples follows from the data."""
        return self.kind in ("class", "subclass")

    @property
    def amount_option(self) -> str:
        """The option that sets how many examples are forgotten."""
        return "split.forget_fraction" if self.amount is None else f"--split.forget {self.kind}=N"

    @property
    def text(self) -> str:
        """The one spelling of the rule, by which runs are identified.

        Examples:
            >>> parse_forget("classes= 3").text, parse_forget("classes=10,2").text, parse_forget("hardest=0.10").text
            ('class=3', 'classes=2,10', 'hardest=0.1')
        """
        if self.is_class:
            names = sorted(self.names, key=lambda name: (len(name), name))
            return f"{'classes' if len(names) > 1 else self.kind}={','.join(names)}"
        return self.kind if self.amount is None else f"{self.kind}={self.amount!r}"


def parse_forget(text: str) -> ForgetRule:
    """Parse ``split.forget``.

    Raises:
        ValueError: There is no such rule, or its value does not fit.

    Examples:
        >>> parse_forget("classes=2,5").names, parse_forget("random=1").amount
        (('2', '5'), 1)
    """
    kind, equals, value = (part.strip() for part in text.partition("="))
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
    if kind in EXTREMES:
        return ForgetRule(kind=kind, amount=_read_amount(text, value))
    if kind in ("class", "classes", "subclass"):
        # a name may hold a comma
        names = names if kind == "classes" else (value,)
        if not all(names) or len(set(names)) != len(names):
            raise ValueError(f"split.forget {text!r} must name classes, each once: class=3, class=cat or classes=2,5")
        return ForgetRule(kind="subclass" if kind == "subclass" else "class", names=names)
    raise ValueError(f"split.forget {text!r} is unknown; known: {KNOWN}")


def _read_amount(text: str, value: str) -> float:
    """Read a number of examples, or a fraction below 1."""
    if value.isdecimal() and int(value) > 0:
        return int(value)
    try:
        fraction = float(value)
    except ValueError:
        fraction = 0.0
    if 0 < fraction < 1:
        return fraction
    raise ValueError(
        f"split.forget {text!r} needs a number of examples or a fraction of D, such as hardest=100 or =0.1"
    )
