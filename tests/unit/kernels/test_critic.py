"""The adversarial losses against the paper's formulas, written a second time in NumPy, row by row."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ungan_dist.kernels import CriticOptions, cramer_surrogate, critic_loss, generator_loss, gradient_penalty

FEATURES, WIDTHS, BATCH = 6, (5, 4, 3), 7
PENALTIES = ["squared", "as_written"]
TARGETS = ["critic", "embedding_sum", "embedding_norm", "jacobian"]
SHAPES = [(5, 6), (5,), (4, 5), (4,), (3, 4), (3,)]
norm = np.linalg.norm


def draw(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(scale: float = 0.6) -> list[Tensor]:
    return [draw(*shape, seed=i, scale=scale).requires_grad_() for i, shape in enumerate(SHAPES)]


def batches(num: int = 4, rows: int = BATCH) -> list[Tensor]:
    """z_u, z_f, z'_f, z'_u."""
    return [draw(rows, FEATURES, seed=10 + i) for i in range(num)]


def epsilon(rows: int = BATCH) -> Tensor:
    return torch.rand(rows, 1, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def second_batch(surrogate: str) -> dict[str, Any]:
    return {"z_unseen2": batches()[3] if surrogate == "energy" else None}


def network(w: list[Tensor]) -> nn.Sequential:
    """The critic as torch's own layers."""
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    model.load_state_dict(dict(zip(model.state_dict(), [t.detach() for t in w], strict=True)))
    return model


def embeddings(w: list[Tensor], *z: Tensor) -> list[np.ndarray]:
    return [network(w)(rows).detach().numpy() for rows in z]


def mean_over_pairs(x: np.ndarray, y: np.ndarray, *, distinct: bool = False) -> float:
    pairs = [(i, j) for i, j in itertools.product(range(len(x)), range(len(y))) if not (distinct and i == j)]
    return float(np.mean([norm(x[i] - y[j]) for i, j in pairs]))


def distance_by_formula(w: list[Tensor], surrogate: str, estimator: str) -> float:
    """What the critic ascends."""
    u, f, f2, u2 = embeddings(w, *batches())
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
    """Row by row: D's whole Jacobian, then the formula of each target."""
    model = network(w)
    unseen, forget, forget2, unseen2 = batches()
    excess = []
    for i in range(BATCH):
        e = epsilon()[i]
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
        weights(),
        *batches(3),
        epsilon(),
        CriticOptions(penalty=penalty, penalty_of=penalty_of, mix_labels=mix_labels, surrogate=surrogate),
        **second_batch(surrogate),
    )
    expected = penalty_by_formula(weights(), penalty, penalty_of, surrogate, mix_labels)
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("surrogate", ["cramer", "energy"])
@pytest.mark.parametrize("estimator", ["paired", "all_pairs"])
def test_critic_loss_is_the_formula(estimator: Any, surrogate: Any) -> None:
    value = critic_loss(
        weights(),
        *batches(3),
        epsilon(),
        CriticOptions(estimator=estimator, surrogate=surrogate),
        **second_batch(surrogate),
    )
    penalty = penalty_by_formula(weights(), "squared", "critic", surrogate, True)
    assert value.item() == pytest.approx(
        -distance_by_formula(weights(), surrogate, estimator) + 10 * penalty, rel=1e-12
    )


@pytest.mark.parametrize("surrogate", ["cramer", "energy"])
@pytest.mark.parametrize("estimator", ["paired", "all_pairs"])
def test_generator_loss_is_the_formula(estimator: Any, surrogate: Any) -> None:
    u, f, f2 = embeddings(weights(), *batches(3))
    both = np.concatenate([f, f2])
    if estimator == "paired":
        expected = np.mean([norm(u[i] - f[i]) + norm(u[i] - f2[i]) - norm(f[i] - f2[i]) for i in range(BATCH)])
    else:
        expected = 2 * mean_over_pairs(u, both) - mean_over_pairs(both, both, distinct=True)
        expected -= mean_over_pairs(u, u, distinct=True) if surrogate == "energy" else 0
    value = generator_loss(weights(), *batches(3), CriticOptions(estimator=estimator, surrogate=surrogate))
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_surrogate_is_algorithm_2s_difference_of_f() -> None:
    h_unseen, h_forget, h_forget2 = (draw(BATCH, 3, seed=i) for i in range(3))

    def f(h: np.ndarray, h2: np.ndarray) -> np.ndarray:
        return norm(h - h2, axis=1) - norm(h, axis=1)

    u, g, g2 = (h.numpy() for h in (h_unseen, h_forget, h_forget2))
    expected = np.mean(f(u, g2) - f(g, g2))
    assert cramer_surrogate(h_unseen, h_forget, h_forget2).item() == pytest.approx(expected, rel=1e-12)


def test_all_pairs_and_paired_agree_in_expectation() -> None:
    """Two estimators of one number: over 200 draws the means agree, and all pairs vary less."""
    generator = torch.Generator().manual_seed(0)
    values: dict[str, list[Tensor]] = {"paired": [], "all_pairs": []}
    for _ in range(200):
        z = [torch.randn(BATCH, FEATURES, generator=generator, dtype=torch.float64) for _ in range(3)]
        z[0] = z[0] + 0.5
        for estimator, seen in values.items():
            seen.append(generator_loss(weights(), *z, CriticOptions(estimator=estimator)).detach())  # pyright: ignore[reportArgumentType]
    paired, pairs = (torch.stack(seen) for seen in values.values())
    difference = paired - pairs
    assert difference.mean().abs() < 4 * difference.std() / 200**0.5
    assert pairs.var() < 0.8 * paired.var()


@pytest.mark.parametrize(
    ("penalty_of", "estimator", "surrogate"),
    [(target, "paired", "cramer") for target in TARGETS]
    + [("critic", "paired", "energy"), ("critic", "all_pairs", "cramer"), ("critic", "all_pairs", "energy")],
)
def test_gradients_of_the_weights_agree_with_differences(penalty_of: Any, estimator: Any, surrogate: Any) -> None:
    def loss(*w: Tensor) -> Tensor:
        return critic_loss(
            w,
            *batches(3),
            epsilon(),
            CriticOptions(penalty_of=penalty_of, estimator=estimator, surrogate=surrogate),
            **second_batch(surrogate),
        )

    assert torch.autograd.gradcheck(loss, weights())


@pytest.mark.parametrize("estimator", ["paired", "all_pairs"])
def test_gradients_of_the_generators_rows_agree_with_differences(estimator: Any) -> None:
    rows = [z.requires_grad_() for z in batches(3, rows=2)]
    assert torch.autograd.gradcheck(lambda *z: generator_loss(weights(), *z, CriticOptions(estimator=estimator)), rows)
    assert torch.autograd.gradcheck(
        lambda u, f, f2: critic_loss(weights(), u, f, f2, epsilon(2), CriticOptions(penalty_weight=1.0)),
        rows,
    )


def test_the_penalty_reaches_the_weights_through_the_second_forget_batch_too() -> None:
    """Treating h'_f as a constant gives another gradient: the dependence is no rounding matter."""
    w = weights()
    z_unseen, z_forget, z_forget2 = batches(3)
    ours = torch.autograd.grad(gradient_penalty(w, z_unseen, z_forget, z_forget2, epsilon()), w[0])[0]
    constant = network(w)(z_forget2).detach()
    model = network(w)
    mixed = (epsilon() * z_unseen + (1 - epsilon()) * z_forget).requires_grad_()
    h = model(mixed)
    slope = torch.autograd.grad(((h - constant).norm(dim=1) - h.norm(dim=1)).sum(), mixed, create_graph=True)[0]
    cut = torch.autograd.grad((slope.norm(dim=1) - 1).square().mean(), model.get_parameter("0.weight"))[0]
    assert (ours - cut).norm() > 0.01 * ours.norm()


@pytest.mark.parametrize("estimator", ["paired", "all_pairs"])
@pytest.mark.parametrize("penalty_of", TARGETS)
@pytest.mark.parametrize("case", ["same example", "every row the same", "dead critic", "zero embedding"])
def test_derivatives_are_finite_where_a_norm_is_zero(case: str, penalty_of: Any, estimator: Any) -> None:
    w = weights()
    z_unseen, z_forget, z_forget2 = (z.requires_grad_() for z in batches(3))
    if case == "same example":
        z_forget2 = z_forget
    elif case == "every row the same":
        z_unseen = z_forget = z_forget2 = torch.zeros(BATCH, FEATURES, dtype=torch.float64, requires_grad=True)
    elif case == "dead critic":
        w[1] = torch.full_like(w[1], -100).requires_grad_()
    else:
        w[4], w[5] = (torch.zeros_like(t).requires_grad_() for t in w[4:])
    loss = critic_loss(
        w,
        z_unseen,
        z_forget,
        z_forget2,
        epsilon(),
        CriticOptions(penalty_of=penalty_of, estimator=estimator),
    )
    moving = generator_loss(w, z_unseen, z_forget, z_forget2, CriticOptions(estimator=estimator))
    first = torch.autograd.grad(loss + moving, [*w, z_forget], create_graph=True, allow_unused=True)
    first = [gradient for gradient in first if gradient is not None]
    second = torch.autograd.grad(sum(g.square().sum() + g.sum() for g in first), w, allow_unused=True)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in first)
    assert all(gradient.isfinite().all() for gradient in second if gradient is not None)


def test_as_written_rewards_a_flat_critic_that_squared_punishes() -> None:
    """Row 1 of the readings: with no slope at all the unsquared penalty is −1, its least value."""
    flat = [torch.zeros_like(weight) for weight in weights()]
    values = {
        penalty: gradient_penalty(flat, *batches(3), epsilon(), CriticOptions(penalty=penalty)).item()  # pyright: ignore[reportArgumentType]
        for penalty in PENALTIES
    }
    assert values == {"squared": 1.0, "as_written": -1.0}


def test_without_mixed_labels_those_of_the_unseen_rows_do_not_matter() -> None:
    z_unseen, z_forget, z_forget2 = batches(3)
    other = torch.cat([z_unseen[:, :3], z_unseen[:, 3:] + 1], dim=1)

    def penalty(unseen: Tensor, *, mix_labels: bool) -> float:
        return gradient_penalty(
            weights(),
            unseen,
            z_forget,
            z_forget2,
            epsilon(),
            CriticOptions(mix_labels=mix_labels),
        ).item()

    assert penalty(z_unseen, mix_labels=False) == penalty(other, mix_labels=False)
    assert penalty(z_unseen, mix_labels=True) != penalty(other, mix_labels=True)


def test_a_loss_can_be_measured_without_gradients() -> None:
    with torch.no_grad():
        measured = critic_loss(weights(), *batches(3), epsilon())
    assert not measured.requires_grad
    assert torch.equal(measured, critic_loss(weights(), *batches(3), epsilon()))


def test_inputs_are_left_as_they_were() -> None:
    w, z = [t.detach() for t in weights()], batches(3)
    copies = [t.clone() for t in (*w, *z)]
    critic_loss(w, *z, epsilon(), CriticOptions(penalty_of="jacobian"))
    assert all(torch.equal(now, before) for now, before in zip((*w, *z), copies, strict=True))
    assert not any(t.requires_grad for t in (*w, *z))


@pytest.mark.usefixtures("compiled_kernels")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": [torch.zeros(0, 6)] * 3}, "at least one row"),
        ({"z": [torch.zeros(7, 6), torch.zeros(6, 6), torch.zeros(7, 6)]}, "z_forget must have z_unseen's shape"),
        ({"z": [torch.zeros(7, 4)] * 3}, r"layer 1 must have a matrix \[out, 4\]"),
        ({"weights": weights()[:4]}, "got 4 tensors"),
        ({"weights": [*weights()[:5], torch.zeros(9)]}, "layer 3"),
        ({"epsilon": torch.zeros(7)}, r"epsilon must be \[batch, 1\]"),
        ({"epsilon": torch.zeros(1, 1)}, r"epsilon must be \[batch, 1\]"),
        ({"surrogate": "energy"}, "z_unseen2 is needed only with"),
        ({"z_unseen2": torch.zeros(7, 6)}, "z_unseen2 is needed only with"),
        ({"surrogate": "energy", "z_unseen2": torch.zeros(6, 6)}, "z_unseen2 must have"),
        ({"penalty": "cubed"}, "penalty must be one of squared, as_written, got 'cubed'"),
        ({"penalty_of": "moon"}, "penalty_of must be one of"),
        ({"surrogate": "moon"}, "surrogate must be one of"),
        ({"estimator": "moon"}, "estimator must be one of"),
        ({"impl": "fused"}, "cannot run critic_loss.*not on a CUDA GPU"),
        ({"impl": "moon"}, "impl must be"),
        (
            {"z": [torch.zeros(7, 5)] * 3, "weights": [torch.zeros(5, 5), *weights()[1:]], "mix_labels": False},
            "got 5 columns",
        ),
        (
            {
                "z": [torch.zeros(1, 6)] * 3,
                "epsilon": torch.zeros(1, 1),
                "surrogate": "energy",
                "z_unseen2": torch.zeros(1, 6),
                "estimator": "all_pairs",
            },
            "at least 2 rows",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production, where our own checks stand
    change = {"weights": weights(), "z": batches(3), "epsilon": epsilon(), **change}
    w, z, mixing = (change.pop(name) for name in ("weights", "z", "epsilon"))
    options = {field.name: change.pop(field.name) for field in fields(CriticOptions) if field.name in change}
    with pytest.raises(ValueError, match=message):
        critic_loss(w, *z, mixing, CriticOptions(**options), **change)


@pytest.mark.usefixtures("compiled_kernels")
def test_the_other_operations_refuse_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    empty = [torch.zeros(0, 6)] * 3
    with pytest.raises(ValueError, match="at least one row"):
        cramer_surrogate(*empty)
    with pytest.raises(ValueError, match="at least one row"):
        generator_loss(weights(), *empty)
    with pytest.raises(ValueError, match="at least one row"):
        gradient_penalty(weights(), *empty, torch.zeros(0, 1))
    for call in (
        lambda: cramer_surrogate(*batches(3), impl="fused"),
        lambda: generator_loss(weights(), *batches(3), impl="fused"),
        lambda: gradient_penalty(weights(), *batches(3), epsilon(), impl="fused"),
    ):
        with pytest.raises(ValueError, match="use impl='reference'"):
            call()
