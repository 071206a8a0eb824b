"""The operations that dominate training time, each with its definition in plain PyTorch."""

# Not lazy: a folder and its operation may share a name (energy_distance), and the operation must be bound after its
# folder was loaded. `import ungan_dist` does not import this module.
from ungan_dist.kernels.augment import gather_augmented
from ungan_dist.kernels.blocks import table_hash
from ungan_dist.kernels.critic import cramer_surrogate, critic_loss, critic_sgd_step, generator_loss, gradient_penalty
from ungan_dist.kernels.critic.obstacles import find_critic_obstacle, find_options_obstacle
from ungan_dist.kernels.critic.options import CriticOptions
from ungan_dist.kernels.energy_distance import energy_distance, energy_distance_1d
from ungan_dist.kernels.impl import Implementation, find_obstacle, resolve
from ungan_dist.kernels.log_odds import log_odds

__all__ = [
    "CriticOptions",
    "Implementation",
    "cramer_surrogate",
    "critic_loss",
    "critic_sgd_step",
    "energy_distance",
    "energy_distance_1d",
    "find_critic_obstacle",
    "find_obstacle",
    "find_options_obstacle",
    "gather_augmented",
    "generator_loss",
    "gradient_penalty",
    "log_odds",
    "resolve",
    "table_hash",
]
