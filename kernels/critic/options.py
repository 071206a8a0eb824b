"""Options of the critic's loss: the readings of the paper that the operations support."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from torch import Tensor

Penalty = Literal["squared", "as_written"]
PenaltyOf = Literal["critic", "embedding_sum", "embedding_norm", "jacobian"]
Estimator = Literal["paired", "all_pairs"]
Surrogate = Literal["cramer", "energy"]


@dataclass(frozen=True, kw_only=True)
class CriticOptions:
    """Terms of the critic's loss; the generator's loss reads ``estimator`` and ``surrogate``.

    Examples:
        >>> CriticOptions(penalty_weight=1.0).penalty
        'squared'
    """

    penalty: Penalty = "squared"
    """squared: (‖∇‖ − 1)². as_written: ‖∇‖ − 1."""
    penalty_of: PenaltyOf = "critic"
    """Function whose gradient ∇ at ẑ is penalised. critic: ``f(ẑ) = ‖D(ẑ) − h'_f‖ − ‖D(ẑ)‖``, or with ``energy``
    ``‖D(ẑ) − h'_f‖ − ‖D(ẑ) − h'_u‖``. embedding_sum: the sum of D(ẑ). embedding_norm: ‖D(ẑ)‖. jacobian: D's Jacobian,
    with its Frobenius norm."""
    penalty_weight: float = 10.0
    """λ of eq. 7."""
    estimator: Estimator = "paired"
    """paired: compare row with row. all_pairs: U-statistics over z_u and F = z_f ∪ z'_f; with A the mean of all cross
    distances and U the mean over i ≠ j, ``A + E‖h_F‖ − U(F) − E‖h_u‖`` for cramer and ``2A − U(F) − U(u)`` for energy.
    The penalty is always paired."""
    surrogate: Surrogate = "cramer"
    """cramer: eq. 8. energy: a second unseen batch replaces the origin."""
    mix_labels: bool = True
    """Mix the label columns of ẑ too; otherwise ẑ keeps z_f's labels."""

    def __post_init__(self) -> None:
        check_word("penalty", self.penalty, Penalty)
        check_word("penalty_of", self.penalty_of, PenaltyOf)
        check_word("estimator", self.estimator, Estimator)
        check_word("surrogate", self.surrogate, Surrogate)


class FusedOptions(NamedTuple):
    """The options as the fused operations take them, in their order."""

    squared: bool
    of_critic: bool
    surrogate_weight: float
    penalty_weight: float
    mixed_columns: int
    precision: str


def flatten_options(
    options: CriticOptions, z: Tensor, precision: str, *, surrogate_weight: float, penalty_weight: float
) -> FusedOptions:
    """Convert the options for the fused operations."""
    return FusedOptions(
        squared=options.penalty == "squared",
        of_critic=options.penalty_of == "critic",
        surrogate_weight=surrogate_weight,
        penalty_weight=penalty_weight,
        mixed_columns=z.shape[1] if options.mix_labels else z.shape[1] // 2,
        precision=precision,
    )


def check_word(name: str, word: str, allowed: object) -> None:
    if word not in get_args(allowed):
        raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}, got {word!r}")


DEFAULT_OPTIONS = CriticOptions()
"""The paper's surrogate, with Cramer GAN's squared penalty on the gradient of f."""
