"""Reports without a run: scores drawn from Gaussians, rows computed as in a real audit."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ungan_dist.attack.evidence import Evidence, Report
from ungan_dist.attack.power import measure_smallest_delta
from ungan_dist.attack.score import score_rows
from ungan_dist.attack.verdicts import judge_rows
from ungan_dist.config.attack import AttackConfig

SHIFTS = {"original": 0.9, "retrain": 0.0, "fine_tuning": 0.45, "ungan": 0.01, "ungan_no_adversary": -0.5}
"""How far forget scores lie above never-seen ones, in standard deviations."""


def evidence_of(
    method: str, seed: int, *, num_train: int = 400, num_forget: int = 80, num_unseen: int = 60
) -> Evidence:
    shared = np.random.default_rng([7, seed])
    order = shared.permutation(2 * num_train)
    forget, retain, non_members = (np.sort(part) for part in np.split(order, [num_forget, num_train]))
    noise = shared.normal(size=2 * num_train)  # the same examples are easy for every method
    rng = np.random.default_rng([seed, *method.encode()])
    scores = noise + 0.2 * rng.normal(size=2 * num_train)
    scores[retain] += 1.0
    scores[forget] += SHIFTS[method]
    log_odds = 4 + 2 * scores[:, None] + 0.3 * rng.normal(size=(2 * num_train, 2))
    length = 12
    curves = {"retain cross-entropy": list(np.geomspace(2, 0.05, length) * rng.uniform(0.9, 1.1, length))}
    if method.startswith("ungan"):
        curves["critic"] = list(rng.normal(size=length))
        curves["generator"] = list(rng.normal(size=length))
    return Evidence(
        method=method,
        seed=seed,
        accuracy={"retain": 0.97 + 0.004 * seed, "forget": 0.91 - 0.01 * seed, "test": 0.9, "unseen": 0.89},
        log_odds=log_odds.astype(np.float32),
        log_odds_unseen=rng.normal(4, 2, size=(num_unseen, 2)).astype(np.float32),
        scores=scores,
        retain=retain,
        forget=forget,
        non_members=non_members,
        curves={} if method == "original" else curves,
        unlearning_seconds=0.0 if method == "original" else float(rng.uniform(3, 120)),
        further_scores={"rmia": scores.round(1), "loss": log_odds.mean(1)},
    )


def make_report(
    num_seeds: int = 3,
    *,
    title: str = "Digits (bundled)",
    status: Literal["COMPLETE", "PARTIAL"] = "COMPLETE",
    missing: list[str] | None = None,
    methods: tuple[str, ...] = tuple(SHIFTS),
    num_forget: int = 80,
) -> Report:
    evidence = [evidence_of(method, seed, num_forget=num_forget) for method in methods for seed in range(num_seeds)]
    attack = AttackConfig(delta=0.05, num_resamples=200)
    sizes = {
        "train": 400,
        "retain": 400 - num_forget,
        "forget": num_forget,
        "unseen": 60,
        "shadow_pool": 400,
        "test": 297,
        "shadows": 64,
        "seeds": num_seeds,
    }
    rows = score_rows(evidence, attack, num_test=297) if evidence else []
    return Report(
        title=title,
        recipe="digits",
        run_hash="3f2a9c0d1e",
        config={
            "identity": {
                "name": "digits",
                "source": {"kind": "digits"},
                "shadows": {"queries": ["plain", "shift"]},
                "attack": {"delta": 0.05, "fnr": 0.01, "fprs": [0.01, 0.001]},
            },
            "methods": list(methods),
            "shadows.num_models": 64,
        },
        resolved={"shadows.engine": "serial", "attack.variance": "per_example"},
        versions={"ungan_dist": "0.1.0", "torch": "2.14.0"},
        sizes=sizes,
        rows=judge_rows(rows, attack, num_classes=10, sizes=sizes, evidence=evidence),
        evidence=evidence,
        shadow_quality={"lira_auc_original_train_against_pool": 0.7123456789},
        status=status,
        missing=missing or [],
        num_classes=10,
        smallest_delta=measure_smallest_delta(rows, sizes),
        forget_files=["runs/digits-3f2a9c0d/retrain/seed-0.npy", "data/digits/images.npy"],
    )
