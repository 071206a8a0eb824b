"""The losses of UnGAN's adversarial steps, as functions of the critic's six weights.

``weights`` are W1, b1, W2, b2, W3, b3 in nn.Linear's layout, ``[out, in]`` and ``[out]``. A row of ``z`` is a model's
output beside a one-hot label of the same width. Every norm is taken per row and is safe: its derivatives of both
orders are 0 where x_f and x'_f are the same example.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ungan_dist.kernels.blocks import Precision
from ungan_dist.kernels.critic import reference
from ungan_dist.kernels.critic.checks import (
    check_batches,
    check_columns,
    check_estimator,
    check_penalty,
    check_weights,
    check_word,
)
from ungan_dist.kernels.critic.obstacles import (
    obstacle_of_critic,
    obstacle_of_options,
    obstacle_of_places,
    obstacle_of_recording,
    obstacle_of_tensors,
)
from ungan_dist.kernels.critic.reference import Estimator, Penalty, PenaltyOf, Surrogate
from ungan_dist.kernels.impl import Impl, resolve


def cramer_surrogate(
    h_unseen: Float[Tensor, "batch embedding"],
    h_forget: Float[Tensor, "batch embedding"],
    h_forget2: Float[Tensor, "batch embedding"],
    *,
    impl: Impl = "auto",
) -> Float[Tensor, ""]:
    """Mean over the batch of ``‖h_u − h'_f‖ + ‖h_f‖ − ‖h_f − h'_f‖ − ‖h_u‖``.

    Raises:
        ValueError: an empty batch, or embeddings of different shapes.

    Source: eq. 8.

    Examples:
        >>> h_unseen, h_forget, h_forget2 = torch.tensor([[3.0]]), torch.tensor([[1.0]]), torch.tensor([[0.0]])
        >>> cramer_surrogate(h_unseen, h_forget, h_forget2)
        tensor(0.)
    """
    check_batches(h_unseen=h_unseen, h_forget=h_forget, h_forget2=h_forget2)
    obstacle = obstacle_of_tensors(h_unseen, h_forget, h_forget2)
    if resolve("cramer_surrogate", impl, h_unseen.device, obstacle=obstacle).name == "fused":
        from ungan_dist.kernels.critic import fused

        return fused.cramer_surrogate(h_unseen, h_forget, h_forget2)[0]
    return reference.cramer_surrogate(h_unseen, h_forget, h_forget2)


def critic_loss(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    *,
    penalty: Penalty,
    penalty_of: PenaltyOf,
    penalty_weight: float,
    estimator: Estimator = "paired",
    surrogate: Surrogate = "cramer",
    z_unseen2: Float[Tensor, "batch features"] | None = None,
    mix_labels: bool = True,
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """What the critic descends: ``−L_surrogate + λ · mean penalty``.

    Args:
        epsilon: mixing coefficients, of which :func:`gradient_penalty` makes ẑ.
        penalty_weight: λ.
        estimator: ``paired``, row against row; ``all_pairs``, U-statistics over z_u and F = z_f ∪ z'_f:
            ``A + E‖h_F‖ − U(F) − E‖h_u‖`` for ``cramer``, ``2A − U(F) − U(u)`` for ``energy``, where A is the mean of
            all cross distances and U the mean over i ≠ j. The penalty is paired in both.
        surrogate: ``cramer``, eq. 8; ``energy``, a second unseen batch in place of the origin.
        z_unseen2: that second batch; required with ``energy``, refused with ``cramer``.
        impl: ``fused`` computes the paired loss of ``cramer`` with a penalty of ``critic`` or ``embedding_sum``, in
            float32 or bfloat16 to a float32 loss, and differentiates it once, with respect to the weights.
        precision: of the fused float32 dots; the reference follows torch's settings.

    Raises:
        ValueError: an empty batch, shapes that do not fit, an unknown word, or more than ``fused`` can do.

    Source: eq. 7 and Algorithm 2; Bellemare et al. 2017, Algorithm 1.
    """
    batches = (z_unseen, z_forget, z_forget2, epsilon)
    check_penalty(weights, z_unseen, z_forget, z_forget2, epsilon, penalty, penalty_of, surrogate, z_unseen2)
    check_estimator(estimator, surrogate, z_unseen)
    check_columns(z_forget, mix_labels)
    check_word("precision", precision, Precision)
    obstacle = (
        obstacle_of_options(estimator=estimator, surrogate=surrogate, penalty_of=penalty_of)
        or obstacle_of_critic(weights, *batches)
        or obstacle_of_recording(*batches)
    )
    if resolve("critic_loss", impl, z_forget.device, obstacle=obstacle).name == "fused":
        return _fused_loss(weights, batches, -1.0, penalty_weight, penalty, penalty_of, mix_labels, precision)
    return reference.critic_loss(
        weights,
        z_unseen,
        z_forget,
        z_forget2,
        epsilon,
        penalty=penalty,
        penalty_of=penalty_of,
        penalty_weight=penalty_weight,
        estimator=estimator,
        surrogate=surrogate,
        z_unseen2=z_unseen2,
        mix_labels=mix_labels,
    )


def critic_sgd_step(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    penalty: Penalty,
    penalty_of: PenaltyOf,
    penalty_weight: float,
    mix_labels: bool = True,
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """One step of SGD on :func:`critic_loss`, in the weights' place: ``w ← w − η (∇w + weight_decay · w)``.

    Args:
        learning_rate: η.
        impl: ``fused`` is five launches in all: no gradient is written, scaled or read again.

    Returns:
        The loss before the step, without a graph.

    Raises:
        ValueError: as :func:`critic_loss`, or for ``fused`` weights that are not contiguous.

    Source: Algorithm 2; torch.optim.SGD without momentum.
    """
    batches = tuple(z.detach() for z in (z_unseen, z_forget, z_forget2, epsilon))
    check_penalty(weights, z_unseen, z_forget, z_forget2, epsilon, penalty, penalty_of, "cramer", None)
    check_columns(z_forget, mix_labels)
    check_word("precision", precision, Precision)
    obstacle = (
        obstacle_of_options(penalty_of=penalty_of)
        or obstacle_of_critic(weights, *batches)
        or obstacle_of_places(weights)
    )
    if resolve("critic_sgd_step", impl, z_forget.device, obstacle=obstacle).name == "fused":
        from ungan_dist.kernels.critic import fused

        w1, b1, w2, b2, w3, b3 = weights
        words = _fused_words(z_forget, -1.0, penalty_weight, penalty, penalty_of, mix_labels, precision)
        with torch.no_grad():
            return fused.critic_sgd_step(w1, b1, w2, b2, w3, b3, *batches, *words, learning_rate, weight_decay)
    leaves = [weight.detach().requires_grad_() for weight in weights]
    with torch.enable_grad():
        loss = critic_loss(
            leaves,
            *batches,
            penalty=penalty,
            penalty_of=penalty_of,
            penalty_weight=penalty_weight,
            mix_labels=mix_labels,
            impl="reference",
        )
        gradients = torch.autograd.grad(loss, leaves)
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.sub_(gradient.add(weight, alpha=weight_decay), alpha=learning_rate)
    return loss.detach()


def gradient_penalty(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    *,
    penalty: Penalty,
    penalty_of: PenaltyOf,
    surrogate: Surrogate = "cramer",
    z_unseen2: Float[Tensor, "batch features"] | None = None,
    mix_labels: bool = True,
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """Mean over the batch of how far a gradient's norm at ``ẑ = ε z_u + (1 − ε) z_f`` is from 1.

    Args:
        penalty: ``squared``, (‖∇‖ − 1)²; ``as_written``, ‖∇‖ − 1.
        penalty_of: ``critic``, the gradient of ``f(ẑ) = ‖D(ẑ) − h'_f‖ − ‖D(ẑ)‖`` (with ``energy``, the second norm is
            ``‖D(ẑ) − h'_u‖``); ``embedding_sum``, of the sum of D(ẑ); ``embedding_norm``, of ‖D(ẑ)‖; ``jacobian``, D's
            Jacobian and its Frobenius norm.
        mix_labels: mix the label columns too; otherwise ẑ carries z_f's.

    Raises:
        ValueError: an empty batch, shapes that do not fit, or an unknown word.

    Source: Algorithm 2; Bellemare et al. 2017, Algorithm 1.
    """
    batches = (z_unseen, z_forget, z_forget2, epsilon)
    check_penalty(weights, z_unseen, z_forget, z_forget2, epsilon, penalty, penalty_of, surrogate, z_unseen2)
    check_columns(z_forget, mix_labels)
    check_word("precision", precision, Precision)
    obstacle = (
        obstacle_of_options(surrogate=surrogate, penalty_of=penalty_of)
        or obstacle_of_critic(weights, *batches)
        or obstacle_of_recording(*batches)
    )
    if resolve("gradient_penalty", impl, z_forget.device, obstacle=obstacle).name == "fused":
        return _fused_loss(weights, batches, 0.0, 1.0, penalty, penalty_of, mix_labels, precision)
    return reference.gradient_penalty(
        weights,
        z_unseen,
        z_forget,
        z_forget2,
        epsilon,
        penalty=penalty,
        penalty_of=penalty_of,
        z_unseen2=z_unseen2,
        mix_labels=mix_labels,
    )


def generator_loss(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    *,
    estimator: Estimator = "paired",
    surrogate: Surrogate = "cramer",
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """What the generator descends: mean over the batch of ``‖h_u − h_f‖ + ‖h_u − h'_f‖ − ‖h_f − h'_f‖``.

    Args:
        estimator: ``all_pairs`` is ``2A − U(F)``, letters as in :func:`critic_loss`.
        surrogate: ``energy`` subtracts U(u) from that; the paired loss is eq. 6 in both.

    Raises:
        ValueError: an empty batch, shapes that do not fit, or an unknown word.

    Source: eq. 6 and Algorithm 3.
    """
    check_batches(z_unseen=z_unseen, z_forget=z_forget, z_forget2=z_forget2)
    check_weights(weights, z_forget)
    check_word("surrogate", surrogate, Surrogate)
    check_estimator(estimator, surrogate, z_unseen)
    check_word("precision", precision, Precision)
    # eq. 6 is one for both surrogates
    obstacle = obstacle_of_options(estimator=estimator) or obstacle_of_critic(weights, z_unseen, z_forget, z_forget2)
    if resolve("generator_loss", impl, z_forget.device, obstacle=obstacle).name == "fused":
        from ungan_dist.kernels.critic import fused

        recording = torch.is_grad_enabled()
        input_gradient = recording and any(z.requires_grad for z in (z_unseen, z_forget, z_forget2))
        weight_gradient = recording and any(weight.requires_grad for weight in weights)
        w1, b1, w2, b2, w3, b3 = weights
        return fused.generator_loss(
            w1, b1, w2, b2, w3, b3, z_unseen, z_forget, z_forget2, precision, input_gradient, weight_gradient
        )[0]
    return reference.generator_loss(weights, z_unseen, z_forget, z_forget2, estimator=estimator, surrogate=surrogate)


def _fused_loss(
    weights: Sequence[Tensor],
    batches: tuple[Tensor, Tensor, Tensor, Tensor],
    surrogate_weight: float,
    penalty_weight: float,
    penalty: Penalty,
    penalty_of: PenaltyOf,
    mix_labels: bool,
    precision: Precision,
) -> Float[Tensor, ""]:
    from ungan_dist.kernels.critic import fused

    z_unseen, z_forget, z_forget2, epsilon = batches
    w1, b1, w2, b2, w3, b3 = weights
    words = _fused_words(z_forget, surrogate_weight, penalty_weight, penalty, penalty_of, mix_labels, precision)
    gradient = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
    return fused.critic_loss(w1, b1, w2, b2, w3, b3, z_unseen, z_forget, z_forget2, epsilon, *words, gradient)[0]


def _fused_words(
    z: Tensor,
    surrogate_weight: float,
    penalty_weight: float,
    penalty: Penalty,
    penalty_of: PenaltyOf,
    mix_labels: bool,
    precision: Precision,
) -> tuple[bool, bool, float, float, int, str]:
    """The options as the fused operations take them, in their order."""
    mixed_columns = z.shape[1] if mix_labels else z.shape[1] // 2
    return penalty == "squared", penalty_of == "critic", surrogate_weight, penalty_weight, mixed_columns, precision
