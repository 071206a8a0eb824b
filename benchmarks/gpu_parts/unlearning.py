"""Time UnGAN's T_U with the model and the sizes of the recipe ``paper``, step by step and captured."""

from __future__ import annotations

import dataclasses

import torch

from gpu_parts.arms import Arm
from gpu_parts.checks import relative_error
from gpu_parts.pictures import draw_examples
from gpu_parts.session import Session
from ungan_dist.config.methods import UnGANConfig
from ungan_dist.config.recipes import paper
from ungan_dist.config.training import ModelConfig
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.runs.targets import run_timed
from ungan_dist.training.engines.capture import CapturedSteps
from ungan_dist.training.engines.passes import without_fused_crops
from ungan_dist.training.models import build, frozen_copy, use_memory_format
from ungan_dist.training.precision import use_precision
from ungan_dist.training.world import World

ARMS = {
    "eager": Arm(),
    "graph": Arm(engine="graph"),
    "graph, bf16": Arm(engine="graph", precision="bf16"),
}


def time_ungan(session: Session) -> None:
    """Append T_U of each arm, and how far its weights are from those of the first after one round."""
    config = session.pick(UnGANConfig(), UnGANConfig(critic_widths=(8, 8, 8)))
    expected, rounds = None, 2
    for name, arm in ARMS.items():
        with session.attempt(name):
            unlearned, seconds = _run(session, arm, dataclasses.replace(config, epochs=1))
            if expected is None:  # each arm takes as many rounds as fit for the slowest, which is the first
                expected, affordable = unlearned.model, session.seconds_left / (len(ARMS) + 1) / seconds
                rounds = session.pick(max(1, min(config.epochs, int(affordable))), 2)
            error = relative_error(unlearned.model, expected, make_request(session, arm).original)
            _, seconds = _run(session, arm, dataclasses.replace(config, epochs=rounds))
            session.append(name, error=error, t_u_s=seconds, rounds=rounds, rounds_of_the_paper=config.epochs)


def _run(session: Session, arm: Arm, config: UnGANConfig) -> tuple[Unlearned, float]:
    with use_precision(arm.precision):
        return run_timed(make_request(session, arm), config)


def make_request(session: Session, arm: Arm) -> Request:
    """Make the paper's request: 22,500 training examples, of which 1,125 are to be forgotten, and 5,000 unseen ones."""
    recipe = paper()
    forget = recipe.split.num_forget
    retain, forget, unseen = session.pick((recipe.split.train - forget, forget, recipe.split.unseen), (24, 8, 8))
    data = draw_examples(session, retain + forget + unseen, channels_last=True)
    model = session.pick(recipe.model, ModelConfig(width=4))
    train = dataclasses.replace(recipe.train, batch_size=session.pick(recipe.train.batch_size, 4))
    device = torch.device(session.device)

    def new_model(seed: int) -> torch.nn.Module:
        made = build(model, channels=3, num_classes=data.num_classes, seed=seed, device=device)
        return use_memory_format(made, model, "channels_last")

    is_captured = arm.engine == "graph"
    everything = torch.arange(retain + forget + unseen, device=device)
    return Request(
        original=frozen_copy(new_model(0)),
        fresh=new_model(1),
        data=without_fused_crops(data) if is_captured else data,
        retain=everything[:retain],
        forget=everything[retain : retain + forget],
        unseen=everything[retain + forget :],
        train=train,
        seed=0,
        world=World(device=device),
        steps=CapturedSteps(device) if is_captured else None,
    )
