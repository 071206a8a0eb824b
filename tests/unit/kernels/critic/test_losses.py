"""Compare the adversarial losses with a row-by-row NumPy implementation of the paper's formulas."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from critic_inputs import (
    BATCH,
    FEATURES,
    PENALTIES,
    TARGETS,
    build_network,
    draw,
    make_batches,
    make_epsilon,
    make_weights,
    second_batch,
)
from torch import Tensor

from ungan_dist.kernels import CriticOptions, cramer_surrogate, critic_loss, generator_loss, gradient_penalty

norm = np.linalg.norm


def embeddings(w: list[Tensor], *z: Tensor) -> list[np.ndarray]:
    return [build_network(w)(rows).detach().numpy() for rows in z]


def mean_over_pairs(x: np.ndarray, y: np.ndarray, *, distinct: bool = False) -> float:
    pairs = [(i, j) for i, j in itertools.product(range(len(x)), range(len(y))) if not (distinct and i == j)]
    return float(np.mean([norm(x[i] - y[j]) for i, j in pairs]))


def distance_by_formula(w: list[Tensor], surrogate: str, estimator: str) -> float:
    """Compute the objective that the critic maximises."""
    u, f, f2, u2 = embeddings(w, *make_batches())
    if estimator == "paired":
        if surrogate == "cramer":
            rows = [norm(u[i] - f2[i]) + norm(f[i]) - norm(f[i] - f2[i]) - norm(u[i]) for i in range(BATCH)]
        else:
            rows = [
                norm(u[i] - f2[i]) + norm(f[i] - u2[i]) - norm(f[i] - f2[i]) - norm(u[i] - u2[i]) for i in range(BATCH)
            ]
        return float(np.mean(rows))
    both = np.concatenate([f, f2])
    cross, within = mean_over_pairs(u, both), mean_over_pairs(both, both, distinct=True)
    if surrogate == "cramer":
        return cross + np.mean([norm(h) for h in both]) - within - np.mean([norm(h) for h in u])
    return 2 * cross - within - mean_over_pairs(u, u, distinct=True)


def penalty_by_formula(w: list[Tensor], penalty: str, penalty_of: str, surrogate: Any, mix_labels: bool) -> float:
    """Compute the penalty row by row from D's Jacobian and the formula of each target."""
    model = build_network(w)
    unseen, forget, forget2, unseen2 = make_batches()
    excess = []
    for i in range(BATCH):
        e = make_epsilon()[i]
        mixed = e * unseen[i] + (1 - e) * forget[i]
        if not mix_labels:
            mixed = torch.cat([mixed[: FEATURES // 2], forget[i, FEATURES // 2 :]])
        jacobian = torch.autograd.functional.jacobian(model, mixed).numpy()
        h, h_f2, h_u2 = (model(z).detach().numpy() for z in (mixed, forget2[i], unseen2[i]))
        origin = h_u2 if surrogate == "energy" else 0
        gradient = {
            "critic": jacobian.T @ ((h - h_f2) / norm(h - h_f2) - (h - origin) / norm(h - origin)),
            "embedding_sum": jacobian.sum(0),
            "embedding_norm": jacobian.T @ h / norm(h),
            "jacobian": jacobian.ravel(),
        }[penalty_of]
        excess.append(norm(gradient) - 1)
    return float(np.mean(np.square(excess) if penalty == "squared" else excess))


@pytest.mark.parametrize("mix_labels", [True, False])
@pytest.mark.parametrize("surrogate", ["cramer", "energy"])
@pytest.mark.parametrize("penalty_of", TARGETS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_penalty_is_the_formula(penalty: Any, penalty_of: Any, surrogate: Any, mix_labels: bool) -> None:
    value = gradient_penalty(
        make_weights(),
        *make_batches(3),
        make_epsilon(),
        CriticOptions(penalty=penalty, penalty_of=penalty_of, mix_labels=mix_labels, surrogate=surrogate),
        **second_batch(surrogate),
    )
    expected = penalty_by_formula(make_weights(), penalty, penalty_of, surrogate, mix_labels)
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("surrogate", ["cramer", "energy"])
@pytest.mark.parametrize("estimator", ["paired", "all_pairs"])
def test_critic_loss_is_the_formula(estimator: Any, surrogate: Any) -> None:
    value = critic_loss(
        make_weights(),
        *make_batches(3),
        make_epsilon(),
        CriticOptions(estimator=estimator, surrogate=surrogate),
        **second_batch(surrogate),
    )
    penalty = penalty_by_formula(make_weights(), "squared", "critic", surrogate, True)
    assert value.item() == pytest.approx(
        -distance_by_formula(make_weights(), surrogate, estimator) + 10 * penalty, rel=1e-12
    )


@pytest.mark.parametrize("surrogate", ["cramer", "energy"])
@pytest.mark.parametrize("estimator", ["paired", "all_pairs"])
def test_generator_loss_is_the_formula(estimator: Any, surrogate: Any) -> None:
    u, f, f2 = embeddings(make_weights(), *make_batches(3))
    both = np.concatenate([f, f2])
    if estimator == "paired":
        expected = np.mean([norm(u[i] - f[i]) + norm(u[i] - f2[i]) - norm(f[i] - f2[i]) for i in range(BATCH)])
    else:
        expected = 2 * mean_over_pairs(u, both) - mean_over_pairs(both, both, distinct=True)
        expected -= mean_over_pairs(u, u, distinct=True) if surrogate == "energy" else 0
    value = generator_loss(make_weights(), *make_batches(3), CriticOptions(estimator=estimator, surrogate=surrogate))
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_surrogate_is_algorithm_2s_difference_of_f() -> None:
    h_unseen, h_forget, h_forget2 = (draw(BATCH, 3, seed=i) for i in range(3))

    def f(h: np.ndarray, h2: np.ndarray) -> np.ndarray:
        return norm(h - h2, axis=1) - norm(h, axis=1)

    u, g, g2 = (h.numpy() for h in (h_unseen, h_forget, h_forget2))
    expected = np.mean(f(u, g2) - f(g, g2))
    assert cramer_surrogate(h_unseen, h_forget, h_forget2).item() == pytest.approx(expected, rel=1e-12)


def test_all_pairs_and_paired_agree_in_expectation() -> None:
    """Over 200 draws the means of both estimators agree, and all pairs vary less."""
    generator = torch.Generator().manual_seed(0)
    values: dict[str, list[Tensor]] = {"paired": [], "all_pairs": []}
    for _ in range(200):
        z = [torch.randn(BATCH, FEATURES, generator=generator, dtype=torch.float64) for _ in range(3)]
        z[0] = z[0] + 0.5
        for estimator, seen in values.items():
            seen.append(generator_loss(make_weights(), *z, CriticOptions(estimator=estimator)).detach())  # pyright: ignore[reportArgumentType]
    paired, pairs = (torch.stack(seen) for seen in values.values())
    difference = paired - pairs
    assert difference.mean().abs() < 4 * difference.std() / 200**0.5
    assert pairs.var() < 0.8 * paired.var()


def test_as_written_rewards_a_flat_critic_that_squared_punishes() -> None:
    """Without a slope the unsquared penalty is −1, its minimum."""
    flat = [torch.zeros_like(weight) for weight in make_weights()]
    values = {
        penalty: gradient_penalty(flat, *make_batches(3), make_epsilon(), CriticOptions(penalty=penalty)).item()  # pyright: ignore[reportArgumentType]
        for penalty in PENALTIES
    }
    assert values == {"squared": 1.0, "as_written": -1.0}


def test_labels_of_unseen_rows_matter_only_if_mixed() -> None:
    z_unseen, z_forget, z_forget2 = make_batches(3)
    other = torch.cat([z_unseen[:, :3], z_unseen[:, 3:] + 1], dim=1)

    def penalty(unseen: Tensor, *, mix_labels: bool) -> float:
        return gradient_penalty(
            make_weights(),
            unseen,
            z_forget,
            z_forget2,
            make_epsilon(),
            CriticOptions(mix_labels=mix_labels),
        ).item()

    assert penalty(z_unseen, mix_labels=False) == penalty(other, mix_labels=False)
    assert penalty(z_unseen, mix_labels=True) != penalty(other, mix_labels=True)


def test_a_loss_can_be_measured_without_gradients() -> None:
    with torch.no_grad():
        measured = critic_loss(make_weights(), *make_batches(3), make_epsilon())
    assert not measured.requires_grad
    assert torch.equal(measured, critic_loss(make_weights(), *make_batches(3), make_epsilon()))


def test_inputs_are_unchanged() -> None:
    w, z = [t.detach() for t in make_weights()], make_batches(3)
    copies = [t.clone() for t in (*w, *z)]
    critic_loss(w, *z, make_epsilon(), CriticOptions(penalty_of="jacobian"))
    assert all(torch.equal(now, before) for now, before in zip((*w, *z), copies, strict=True))
    assert not any(t.requires_grad for t in (*w, *z))
