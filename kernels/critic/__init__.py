"""The losses of UnGAN's adversarial steps, as functions of the critic's six weights.

``weights`` are W1, b1, W2, b2, W3, b3 in nn.Linear's layout, ``[out, in]`` and ``[out]``. A row of ``z`` is a model's
output beside a one-hot label of the same width. Every norm is per row and safe: its first and second derivatives are 0
at a zero vector, where x_f and x'_f are the same example.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ungan_dist.kernels.blocks import Precision
from ungan_dist.kernels.critic import closed_form, reference
from ungan_dist.kernels.critic.checks import check_batches, check_num_rows, check_penalty, check_weights
from ungan_dist.kernels.critic.obstacles import (
    find_critic_obstacle,
    find_gradient_obstacle,
    find_layout_obstacle,
    find_options_obstacle,
    find_tensor_obstacle,
)
from ungan_dist.kernels.critic.options import DEFAULT_OPTIONS, CriticOptions, check_word, flatten_options
from ungan_dist.kernels.impl import Impl, resolve


def cramer_surrogate(
    h_unseen: Float[Tensor, "batch embedding"],
    h_forget: Float[Tensor, "batch embedding"],
    h_forget2: Float[Tensor, "batch embedding"],
    *,
    impl: Impl = "auto",
) -> Float[Tensor, ""]:
    """Return the mean over the batch of ``‖h_u − h'_f‖ + ‖h_f‖ − ‖h_f − h'_f‖ − ‖h_u‖``.

    Raises:
        ValueError: an empty batch, or embeddings of different shapes.

    Source: eq. 8.

    Examples:
        >>> h_unseen, h_forget, h_forget2 = torch.tensor([[3.0]]), torch.tensor([[1.0]]), torch.tensor([[0.0]])
        >>> cramer_surrogate(h_unseen, h_forget, h_forget2)
        tensor(0.)
    """
    check_batches(h_unseen=h_unseen, h_forget=h_forget, h_forget2=h_forget2)
    obstacle = find_tensor_obstacle(h_unseen, h_forget, h_forget2)
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
    options: CriticOptions = DEFAULT_OPTIONS,
    *,
    z_unseen2: Float[Tensor, "batch features"] | None = None,
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """Return the critic's loss, ``−L_surrogate + λ · mean penalty``.

    Args:
        epsilon: mixing coefficients of ``gradient_penalty``.
        z_unseen2: second unseen batch, required with ``surrogate="energy"`` only.
        impl: ``fused`` supports the paired loss of ``cramer`` with a penalty of ``critic`` or ``embedding_sum``. It
            takes float32 or bfloat16, returns float32, and is differentiable once, with respect to the weights.
        precision: precision of the fused float32 dots; the reference follows torch's settings.

    The reference is a closed form without double backward, wherever it is equal to the definition.

    Raises:
        ValueError: an empty batch, shapes that do not fit, or options that ``fused`` does not support.

    Examples:
        >>> import torch
        >>> from ungan_dist.kernels import CriticOptions
        >>> flat = [torch.zeros(shape) for shape in ((4, 4), (4,), (4, 4), (4,), (4, 4), (4,))]
        >>> z, epsilon = torch.eye(4)[:2], torch.full((2, 1), 0.5)
        >>> critic_loss(flat, z, z, z, epsilon, CriticOptions(penalty_weight=3.0)).item()
        3.0

    Source: eq. 7 and Algorithm 2; Bellemare et al. 2017, Algorithm 1.
    """
    batches = (z_unseen, z_forget, z_forget2, epsilon)
    check_penalty(weights, z_unseen, z_forget, z_forget2, epsilon, options, z_unseen2)
    check_num_rows(z_unseen, options)
    check_word("precision", precision, Precision)
    obstacle = (
        find_options_obstacle(options) or find_critic_obstacle(weights, *batches) or find_gradient_obstacle(*batches)
    )
    if resolve("critic_loss", impl, z_forget.device, obstacle=obstacle).name == "fused":
        return _fused_loss(weights, batches, options, precision, surrogate_weight=-1.0)
    if closed_form.supports(options, *batches):
        return closed_form.critic_loss(weights, z_unseen, z_forget, z_forget2, epsilon, options)
    return reference.critic_loss(weights, z_unseen, z_forget, z_forget2, epsilon, options, z_unseen2)


def critic_sgd_step(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    epsilon: Float[Tensor, "batch 1"],
    options: CriticOptions = DEFAULT_OPTIONS,
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """Take one SGD step on ``critic_loss`` in place: ``w ← w − η (∇w + weight_decay · w)``.

    Args:
        options: surrogate must be ``cramer``.
        learning_rate: η.
        impl: ``fused`` uses five launches and never writes a whole gradient.

    Returns:
        The loss before the step, without a graph.

    Raises:
        ValueError: as ``critic_loss``; with ``fused`` also weights that are not contiguous.

    Examples:
        >>> import torch
        >>> weights = [torch.ones(shape) / 4 for shape in ((4, 4), (4,), (4, 4), (4,), (4, 4), (4,))]
        >>> z = torch.eye(4)[:2]
        >>> critic_sgd_step(weights, z, z, z, torch.full((2, 1), 0.5), learning_rate=0.1, weight_decay=0.5)
        tensor(0.)
        >>> weights[1]
        tensor([0.2375, 0.2375, 0.2375, 0.2375])

    Source: Algorithm 2; torch.optim.SGD without momentum.
    """
    batches = tuple(z.detach() for z in (z_unseen, z_forget, z_forget2, epsilon))
    check_penalty(weights, z_unseen, z_forget, z_forget2, epsilon, options, None)
    check_word("precision", precision, Precision)
    obstacle = (
        find_options_obstacle(options) or find_critic_obstacle(weights, *batches) or find_layout_obstacle(weights)
    )
    if resolve("critic_sgd_step", impl, z_forget.device, obstacle=obstacle).name == "fused":
        from ungan_dist.kernels.critic import fused

        w1, b1, w2, b2, w3, b3 = weights
        flat = flatten_options(
            options, z_forget, precision, surrogate_weight=-1.0, penalty_weight=options.penalty_weight
        )
        with torch.no_grad():
            return fused.critic_sgd_step(w1, b1, w2, b2, w3, b3, *batches, *flat, learning_rate, weight_decay)
    leaves = [weight.detach().requires_grad_() for weight in weights]
    with torch.enable_grad():
        loss = critic_loss(leaves, *batches, options=options, impl="reference")
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
    options: CriticOptions = DEFAULT_OPTIONS,
    *,
    z_unseen2: Float[Tensor, "batch features"] | None = None,
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """Return the mean penalty, without its weight, of gradients at ``ẑ = ε z_u + (1 − ε) z_f``.

    Args:
        options: ``penalty``, ``penalty_of``, ``surrogate`` and ``mix_labels`` are used.

    Raises:
        ValueError: as ``critic_loss``.

    Examples:
        >>> import torch
        >>> from ungan_dist.kernels import CriticOptions
        >>> flat = [torch.zeros(shape) for shape in ((4, 4), (4,), (4, 4), (4,), (4, 4), (4,))]
        >>> z, epsilon = torch.eye(4)[:2], torch.full((2, 1), 0.5)
        >>> gradient_penalty(flat, z, z, z, epsilon).item()
        1.0
        >>> gradient_penalty(flat, z, z, z, epsilon, CriticOptions(penalty="as_written")).item()
        -1.0

    Source: Algorithm 2; Bellemare et al. 2017, Algorithm 1.
    """
    batches = (z_unseen, z_forget, z_forget2, epsilon)
    check_penalty(weights, z_unseen, z_forget, z_forget2, epsilon, options, z_unseen2)
    check_word("precision", precision, Precision)
    obstacle = (
        find_options_obstacle(options) or find_critic_obstacle(weights, *batches) or find_gradient_obstacle(*batches)
    )
    if resolve("gradient_penalty", impl, z_forget.device, obstacle=obstacle).name == "fused":
        return _fused_loss(weights, batches, options, precision, surrogate_weight=0.0)
    return reference.gradient_penalty(weights, z_unseen, z_forget, z_forget2, epsilon, options, z_unseen2)


def generator_loss(
    weights: Sequence[Tensor],
    z_unseen: Float[Tensor, "batch features"],
    z_forget: Float[Tensor, "batch features"],
    z_forget2: Float[Tensor, "batch features"],
    options: CriticOptions = DEFAULT_OPTIONS,
    *,
    impl: Impl = "auto",
    precision: Precision = "tf32x3",
) -> Float[Tensor, ""]:
    """Return the generator's loss, the mean over the batch of ``‖h_u − h_f‖ + ‖h_u − h'_f‖ − ‖h_f − h'_f‖``.

    Args:
        options: with ``all_pairs``, the loss is ``2A − U(F)`` (letters as in ``CriticOptions``), and ``energy``
            subtracts U(u). The paired loss is eq. 6 for both surrogates.

    Raises:
        ValueError: an empty batch, or shapes that do not fit.

    Examples:
        >>> import torch
        >>> weights = [torch.ones(shape) / 4 for shape in ((4, 4), (4,), (4, 4), (4,), (4, 4), (4,))]
        >>> z = torch.eye(4)[:2]
        >>> generator_loss(weights, z, z, z)
        tensor(0.)

    Source: eq. 6 and Algorithm 3.
    """
    check_batches(z_unseen=z_unseen, z_forget=z_forget, z_forget2=z_forget2)
    check_weights(weights, z_forget)
    check_num_rows(z_unseen, options)
    check_word("precision", precision, Precision)
    obstacle = find_options_obstacle(options, generator=True) or find_critic_obstacle(
        weights, z_unseen, z_forget, z_forget2
    )
    if resolve("generator_loss", impl, z_forget.device, obstacle=obstacle).name == "fused":
        from ungan_dist.kernels.critic import fused

        recording = torch.is_grad_enabled()
        input_gradient = recording and any(z.requires_grad for z in (z_unseen, z_forget, z_forget2))
        weight_gradient = recording and any(weight.requires_grad for weight in weights)
        w1, b1, w2, b2, w3, b3 = weights
        return fused.generator_loss(
            w1, b1, w2, b2, w3, b3, z_unseen, z_forget, z_forget2, precision, input_gradient, weight_gradient
        )[0]
    return reference.generator_loss(weights, z_unseen, z_forget, z_forget2, options)


def _fused_loss(
    weights: Sequence[Tensor],
    batches: tuple[Tensor, Tensor, Tensor, Tensor],
    options: CriticOptions,
    precision: Precision,
    *,
    surrogate_weight: float,
) -> Float[Tensor, ""]:
    """Return the critic's loss, or with a surrogate weight of 0 the penalty alone, without its weight."""
    from ungan_dist.kernels.critic import fused

    w1, b1, w2, b2, w3, b3 = weights
    penalty_weight = options.penalty_weight if surrogate_weight else 1.0
    flat = flatten_options(
        options, batches[1], precision, surrogate_weight=surrogate_weight, penalty_weight=penalty_weight
    )
    gradient = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
    return fused.critic_loss(w1, b1, w2, b2, w3, b3, *batches, *flat, gradient)[0]
