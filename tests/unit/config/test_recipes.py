"""What the recipes hold: the paper's sizes, and one change a variant."""

from __future__ import annotations

from ungan_dist.config.methods import TITLES, UnGANConfig
from ungan_dist.config.methods.ungan import CONTROLS, UNGAN_VARIANTS
from ungan_dist.config.recipes import RECIPES, cifar10_resnet18, fidelity, paper


def test_the_papers_split_gives_the_papers_steps() -> None:
    config = paper()
    assert config.split.num_forget == 1125
    assert config.split.train - config.split.num_forget == 21_375
    assert -(-config.split.train // config.train.batch_size) == 88
    assert config.split.num_forget // config.train.batch_size == 4
    assert (config.shadows.num_models, config.num_seeds, config.shadows.queries) == (128, 8, ("plain",))
    assert cifar10_resnet18().split == config.split


def test_fidelity_changes_one_factor_a_row() -> None:
    base = UnGANConfig()
    for variant, changes in UNGAN_VARIANTS.items():
        for name, value in changes.items():
            assert getattr(base, name) != value
        assert variant in CONTROLS or len(changes) == 1 or variant == "ungan_energy_all_pairs"
        assert TITLES[variant].startswith("UnGAN, ")
    assert set(UNGAN_VARIANTS) < set(fidelity().methods)
    # of the table's readings, every field with named alternatives has a row
    alternatives = {name for changes in UNGAN_VARIANTS.values() for name in changes}
    assert {"penalty", "penalty_of", "penalty_weight", "epsilon_per", "mix_labels", "estimator"} <= alternatives
    assert {"surrogate", "critic_input", "inclusive_loops", "optimizers", "kl_direction"} <= alternatives
    assert {"batch_norm", "augment_adversarial"} <= alternatives
    assert "fidelity" in RECIPES
