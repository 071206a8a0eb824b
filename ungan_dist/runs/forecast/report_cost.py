"""What scoring and the report will take: the real functions on random scores in the run's own shapes."""

from __future__ import annotations

import numpy as np

from ungan_dist.attack.evidence import Evidence, Report
from ungan_dist.attack.lira import fit_shadows
from ungan_dist.attack.score import score_rows
from ungan_dist.report import render
from ungan_dist.runs.forecast.probe import NOTHING, Cost, now
from ungan_dist.runs.plan import Plan

MAX_VALUES = 20_000_000
"""Log-odds above which a part of the examples is fitted, and its time multiplied."""


def report_cost(plan: Plan) -> Cost:
    """Fits, scores and renders a report of the plan's size."""
    config, attack = plan.record.config, plan.record.config.attack
    num_models, num_examples = plan.membership.shape
    num_queries = len(config.shadows.queries)
    share = max(1, -(-num_models * num_examples * num_queries // MAX_VALUES))
    generator = np.random.default_rng(0)
    some = plan.membership[:, ::share]
    log_odds = generator.standard_normal((*some.shape, num_queries), dtype=np.float32)
    begin = now()
    fits = fit_shadows(
        log_odds,
        some,
        center=attack.center,
        variance=attack.variance,
        mode=attack.mode,
        sigma_floor=attack.sigma_floor,
    )
    fitting = now().minus(begin).times(share)
    target = generator.standard_normal((some.shape[1], num_queries), dtype=np.float32)
    begin = now()
    scores = fits.score(target)
    scoring = now().minus(begin).times(share * len(plan.targets))
    evidence = [
        Evidence(
            method=unit.method,
            seed=unit.seed,
            accuracy=dict.fromkeys(("retain", "forget", "unseen", "test"), 0.5),
            log_odds=np.broadcast_to(target[:1], (num_examples, num_queries)),
            log_odds_unseen=generator.standard_normal((len(plan.split.unseen), num_queries), dtype=np.float32),
            scores=generator.permutation(np.resize(scores, num_examples)),
            retain=unit.draw.retain,
            forget=unit.draw.forget,
            non_members=unit.draw.non_members,
            curves={"loss": [0.5] * 10},
            unlearning_seconds=1.0,
        )
        for unit in plan.targets
    ]
    begin = now()
    rows = score_rows(evidence, attack, num_test=len(plan.split.test))
    draw = plan.draws[0]
    render(
        Report(
            title=plan.source.title,
            recipe=config.name,
            run_hash=plan.record.run_hash,
            config={},
            resolved={},
            versions={},
            sizes={
                "train": len(draw.train),
                "retain": len(draw.retain),
                "forget": len(draw.forget),
                "unseen": len(plan.split.unseen),
                "shadow_pool": len(draw.non_members),
                "test": len(plan.split.test),
                "shadows": num_models,
                "seeds": config.num_seeds,
            },
            rows=rows,
            evidence=evidence,
            shadow_quality={},
            status="COMPLETE",
        )
    )
    return NOTHING.plus(fitting, scoring, now().minus(begin))
