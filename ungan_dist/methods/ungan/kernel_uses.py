"""The kernel operations of UnGAN's configs, with the shapes of their calls."""

from __future__ import annotations

from collections.abc import Iterator

from ungan_dist.config.methods import UnGANConfig, UnGANJointConfig
from ungan_dist.kernels import find_options_obstacle
from ungan_dist.kernels.blocks import MAX_CRITIC_WIDTH
from ungan_dist.kernels.uses import KernelUse
from ungan_dist.methods.ungan.critic_network import critic_options


def list_kernel_uses(
    config: object, *, num_classes: int, batch_size: int, num_forget: int, num_unseen: int
) -> Iterator[KernelUse]:
    """List the operations of a method that have a fused form; empty for most methods.

    Args:
        config: The config of any method.
        num_classes: Classes of the data.
        batch_size: Batch size of the training recipe.
        num_forget: Size of the forget set.
        num_unseen: Size of the unseen set.
    """
    if isinstance(config, UnGANJointConfig) and config.distance == "energy" and config.beta:
        largest = config.forget_batch_size or config.batch_size or batch_size
        groups = 1 if config.within == "all" else num_classes
        shapes = {"first": min(num_forget, largest), "second": num_unseen, "groups": groups}
        yield KernelUse(operation="energy_distance_1d", shapes=shapes)
    if not isinstance(config, UnGANConfig):
        return
    options, features = critic_options(config), 2 * num_classes
    width = max(features, *config.critic_widths)
    too_wide = f"it supports widths up to {MAX_CRITIC_WIDTH}, got {width}" if width > MAX_CRITIC_WIDTH else None
    sizes = {"batch": config.batch_size or batch_size, "features": features, "widths": list(config.critic_widths)}
    terms = {
        "penalty": options.penalty,
        "penalty_of": options.penalty_of,
        "penalty_weight": options.penalty_weight,
        "mix_labels": options.mix_labels,
    }
    if config.critic_steps != 0:
        obstacle = find_options_obstacle(options) or too_wide
        for operation in ("critic_loss", "critic_sgd_step"):
            yield KernelUse(operation=operation, shapes=sizes | terms, obstacle=obstacle)
    if config.generator_steps != 0:
        obstacle = find_options_obstacle(options, generator=True) or too_wide
        yield KernelUse(operation="generator_loss", shapes=sizes, obstacle=obstacle)
