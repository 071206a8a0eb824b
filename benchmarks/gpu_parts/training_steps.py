"""Time the training step of ResNet-18 in every arm, beside the serial one in float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gpu_parts.arms import Arm, Task, Trainer, make_trainer
from gpu_parts.checks import relative_error
from gpu_parts.pictures import draw_examples
from gpu_parts.session import Session
from gpu_parts.timing import compare_for
from ungan_dist.config.training import AugmentConfig, ModelConfig, TrainConfig

BASE = "serial"
AS_IT_WAS = Arm(engine="draws for each batch", memory_format="contiguous")
BEST_ARMS = {
    "tf32": Arm(precision="tf32"),
    "bf16": Arm(precision="bf16"),
    "graph": Arm(engine="graph"),
    "graph, bf16": Arm(engine="graph", precision="bf16"),
    "branches of 4, bf16": Arm(engine="branches", precision="bf16", num_places=4),
}
EVERY_ARM = {
    "serial as it was: contiguous, draws for each batch": AS_IT_WAS,
    "contiguous": Arm(memory_format="contiguous"),
    **BEST_ARMS,
    "branches of 2": Arm(engine="branches", num_places=2),
    "branches of 4": Arm(engine="branches", num_places=4),
    "branches of 8": Arm(engine="branches", num_places=8),
    "stacked 8": Arm(engine="stacked", num_places=8),
    "torch.compile": Arm(engine="compile"),
}
"""``torch.compile`` is last, because a compiler may take all the time that is left."""


def imagenet_stem(session: Session) -> None:
    """Time every arm with the model of the recipe ``paper``."""
    _time_arms(session, "resnet18", EVERY_ARM)


def cifar_stem(session: Session) -> None:
    """Time the best arms with the model of the recipe ``cifar10-resnet18``."""
    _time_arms(session, "resnet18_cifar", BEST_ARMS)


def _time_arms(session: Session, model: str, arms: Mapping[str, Arm]) -> None:
    task, num_examples = _make_task(session, model)
    base = Arm(memory_format="channels_last")
    train_base = make_trainer(base, task, num_examples)
    sets = [torch.arange(num_examples, device=session.device)]
    (expected,), (initial,) = _trained(train_base, base, task, sets), task.new_models(base, 1)
    for place, (name, arm) in enumerate(arms.items()):
        share = session.seconds_left / (len(arms) - place)
        if share < 1:
            session.append(name, left_out="the time of the part was spent")
            continue
        with session.attempt(name):
            _time_arm(session, name, arm, task, sets, (train_base, base), (expected, initial), share)
            torch.cuda.empty_cache()


def _time_arm(
    session: Session,
    name: str,
    arm: Arm,
    task: Task,
    sets: list[Tensor],
    beside: tuple[Trainer, Arm],
    check: tuple[nn.Module, nn.Module],
    share: float,
) -> None:
    """Append the row of one arm: times of one pass of one model, and how far its weights are off."""
    train_ours, (train_base, base) = make_trainer(arm, task, len(sets[0])), beside
    error = relative_error(_trained(train_ours, arm, task, sets)[0], *check)
    ours, rival = task.new_models(arm, arm.num_places), task.new_models(base, arm.num_places)
    all_sets = sets * arm.num_places
    # a captured or stacked arm may take half of its share to begin
    budget = session.pick(max(1.0, min(share / 2, 8.0)), 0.0)
    ratio = compare_for(budget, BASE, lambda: train_base(rival, all_sets), lambda: train_ours(ours, all_sets))
    per_model = dataclasses.replace(
        ratio, rival_ms=ratio.rival_ms / arm.num_places, ours_ms=ratio.ours_ms / arm.num_places
    )
    session.append(
        name,
        **dataclasses.asdict(per_model),
        error=error,
        images_per_s=len(sets[0]) / per_model.ours_ms * 1e3,
        arm=dataclasses.asdict(arm),
    )


def _make_task(session: Session, model: str) -> tuple[Task, int]:
    """Make what every arm trains, and the size of its training set."""
    num_batches, batch = session.pick((12, 256), (3, 4))
    num_examples = num_batches * batch
    data = draw_examples(session, num_examples)
    # a small learning rate, so that rounding does not grow from step to step
    train = TrainConfig(epochs=1, batch_size=batch, learning_rate=0.01, augment=AugmentConfig(padding=4, flip=True))
    config = session.pick(ModelConfig(name=model), ModelConfig(name="small_cnn", width=4))  # pyright: ignore[reportArgumentType]
    return Task(model=config, data=data, train=train), num_examples


def _trained(trainer: Trainer, arm: Arm, task: Task, sets: list[Tensor]) -> list[nn.Module]:
    models = task.new_models(arm, arm.num_places)
    trainer(models, sets * arm.num_places)
    return models
