"""Optimizers, schedules, smoothing, clipping and averages are torch's, on every engine and by several workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from batch_order import iterate_batches
from in_process import InProcess, run_command
from process_groups import in_world
from small_audit import small_config
from tiny_request import tiny_request
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from world_training import make, trained, trained_by_all

from ungan_dist.config.recipes import digits
from ungan_dist.config.training import AugmentConfig, TrainConfig
from ungan_dist.data.examples import gather
from ungan_dist.data.seeds import derive_seed
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.progress import Event
from ungan_dist.training.checkpoint import Checkpoint
from ungan_dist.training.engines.capture import CapturedSteps
from ungan_dist.training.engines.slot import Slot
from ungan_dist.training.engines.stacked import train_stacked
from ungan_dist.training.train import train
from ungan_dist.training.world import SINGLE_PROCESS

EPOCHS = 4
MEMBERS = torch.arange(26)
"""Two batches of ten and one of six."""


def recipe(**options: Any) -> TrainConfig:
    augment = AugmentConfig(padding=1, flip=True)
    return TrainConfig(epochs=EPOCHS, batch_size=10, weight_decay=0.01, augment=augment, **options)


RECIPES = {
    "adamw, one cycle": recipe(
        optimizer="adamw",
        learning_rate=0.02,
        schedule="one_cycle",
        warmup_epochs=2,
        gradient_clipping=0.5,
        ema=0.9,
        label_smoothing=0.1,
    ),
    "adam, step": recipe(
        optimizer="adam", learning_rate=0.01, schedule="step", step_epochs=2, step_factor=0.3, label_smoothing=0.1
    ),
    "nesterov, warm-up": recipe(nesterov=True, learning_rate=0.1, warmup_epochs=2, gradient_clipping=1.0, ema=0.8),
    "sgd, one cycle": recipe(schedule="one_cycle", learning_rate=0.2, label_smoothing=0.2),
    "sgd, constant": recipe(schedule="constant", warmup_epochs=1, momentum=0.0, gradient_clipping=0.01),
}


def schedule_of(config: TrainConfig, optimizer: torch.optim.Optimizer, num_steps: int) -> Any:
    rest = config.epochs - config.warmup_epochs
    if config.schedule == "one_cycle":
        part = config.warmup_epochs / config.epochs or 0.3
        rate, total = config.learning_rate, config.epochs * num_steps
        return lr_scheduler.OneCycleLR(optimizer, rate, total_steps=total, pct_start=part, cycle_momentum=False)
    then = {
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, rest),
        "constant": lambda: lr_scheduler.ConstantLR(optimizer, factor=1.0),
        "step": lambda: lr_scheduler.StepLR(optimizer, config.step_epochs, config.step_factor),
    }[config.schedule]()
    if not config.warmup_epochs:
        return then
    first = lr_scheduler.LinearLR(optimizer, 1 / (config.warmup_epochs + 1), total_iters=config.warmup_epochs)
    return lr_scheduler.SequentialLR(optimizer, [first, then], [config.warmup_epochs])


def train_by_torch(config: TrainConfig) -> nn.Module:
    data, model = tiny_request().data, make(0).train()
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer]
    options = {"momentum": config.momentum, "nesterov": config.nesterov} if config.optimizer == "sgd" else {}
    optimizer = kind(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, **options)
    schedule = schedule_of(config, optimizer, 3)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema or 0.5), use_buffers=True)
    average.update_parameters(model)  # the first update copies
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    for epoch in range(config.epochs):
        for batch in iterate_batches(MEMBERS, config.batch_size, seed=0, epoch=epoch):
            images = gather(data, batch, augment=config.augment, seed=derive_seed("augment", 0), epoch=epoch)
            optimizer.zero_grad()
            criterion(model(images), data.labels[batch]).backward()
            if config.gradient_clipping is not None:
                nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
            optimizer.step()
            average.update_parameters(model)
            if config.schedule == "one_cycle":
                schedule.step()
        if config.schedule != "one_cycle":
            schedule.step()
    return average.module if config.ema is not None else model


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    for name, value in theirs.items():
        if value.is_floating_point():
            torch.testing.assert_close(ours[name], value, atol=atol, rtol=0, msg=name)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_torchs(name: str) -> None:
    # fused Adam rounds otherwise, and its steps divide by small second moments
    assert_same(trained(SINGLE_PROCESS, RECIPES[name]), train_by_torch(RECIPES[name]).state_dict(), atol=1e-9)


def train_by(engine: str, config: TrainConfig, checkpoint: Checkpoint | None = None) -> dict[str, Tensor]:
    """Train the model of seed 0, where engines admit it beside another one."""
    data, models, sets = tiny_request().data, [make(0), make(1)], [MEMBERS, MEMBERS + 3]
    if engine == "stacked":
        train_stacked(models, data, sets, config, seeds=[0, 1], checkpoint=checkpoint)
    elif engine == "branches":
        Slot([make(8), make(9)], data, config, 26).train(models, sets, seeds=[0, 1], checkpoint=checkpoint)
    elif engine == "graph":
        slot = Slot([make(9)], data, config, 26)
        slot.train([models[1]], [sets[1]], seeds=[1])  # leaves its states in the slot
        slot.train(models[:1], sets[:1], seeds=[0], checkpoint=checkpoint)
    else:
        steps = CapturedSteps(data.device) if engine == "graph of a target" else None
        train(models[0], data, MEMBERS, config, seed=0, checkpoint=checkpoint, steps=steps)
        assert steps is None or steps.num_captured
    return models[0].state_dict()


ENGINES = ("serial", "graph of a target", "graph", "branches", "stacked")


@pytest.mark.parametrize("engine", ENGINES[1:])
@pytest.mark.parametrize("name", ["adamw, one cycle", "sgd, constant"])
def test_every_engine_trains_by_the_recipe(name: str, engine: str) -> None:
    assert_same(train_by(engine, RECIPES[name]), trained(SINGLE_PROCESS, RECIPES[name]), atol=1e-9)


class Interrupted(BaseException):
    """Ends a training from outside."""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_training_continues_from_a_checkpoint_to_the_same_bits(engine: str, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == total // 2:
            raise Interrupted

    config = RECIPES["adamw, one cycle"]
    first = Checkpoint(tmp_path, "state", id="an id", world=SINGLE_PROCESS, on_epoch=interrupt)
    with pytest.raises(Interrupted):
        train_by(engine, config, first)
    epochs: list[int] = []
    second = Checkpoint(
        tmp_path, "state", id="an id", world=SINGLE_PROCESS, on_epoch=lambda done, _: epochs.append(done)
    )
    assert_same(train_by(engine, config, second), train_by(engine, config), atol=0)
    assert epochs == [3, 4]


@pytest.mark.process
def test_two_workers_train_by_the_recipe_as_one_does() -> None:
    configs = list(RECIPES.values())
    alone = trained_by_all(SINGLE_PROCESS, configs)
    for rank in in_world(2, "world_training:trained_by_all", configs):
        for ours, theirs in zip(rank, alone, strict=True):
            assert_same(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"nesterov": True, "optimizer": "adam"}, "train.nesterov needs sgd with a momentum"),
        ({"nesterov": True, "momentum": 0.0}, "train.nesterov needs sgd with a momentum"),
        ({"label_smoothing": 1.0}, "train.label_smoothing must be at least 0 and below 1"),
        ({"ema": 1.0}, "train.ema must lie between 0 and 1"),
        ({"gradient_clipping": 0.0}, "train.gradient_clipping must be finite and greater than 0"),
        ({"epochs": 2, "warmup_epochs": 2}, r"train.warmup_epochs must be smaller than train.epochs \(2\)"),
        ({"schedule": "step", "epochs": 30}, "first fall is after epoch 30, warm-up included, of train.epochs 30"),
        ({"schedule": "step", "epochs": 30, "warmup_epochs": 5, "step_epochs": 25}, "step_epochs to fewer than 25"),
    ],
)
def test_a_recipe_that_means_nothing_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        digits(train=options)


def test_a_learning_rate_of_sgd_is_warned_of_with_adam(tmp_path: Path) -> None:
    words = ["plan", "digits", "--output", tmp_path, "--no-probe", "--train.optimizer", "adamw"]
    warning = "train.learning_rate 0.05 is one for SGD"
    assert warning in run_command(*words).stdout
    assert warning not in run_command(*words, "--train.learning-rate", "0.001").stdout
    notes: list[Event] = []
    train = TrainConfig(epochs=1, optimizer="adam", learning_rate=0.05)
    config = small_config(tmp_path, train=train, methods=("original",))
    with pytest.raises(KeyboardInterrupt):
        audit(config, run_units=InProcess(interrupted_after=0), on_progress=notes.append)
    assert [event.is_warning for event in notes if warning in event.note] == [True]
