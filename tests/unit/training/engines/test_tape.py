"""A tape repeats a step on the same memory, and refuses a step that a CUDA graph could not repeat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.training.engines.capture import NUM_WATCHED, CapturedSteps
from ungan_dist.training.engines.tape import CaptureRefused

CPU = torch.device("cpu")


class _Counter:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, values: Tensor) -> Tensor:
        self.calls += 1
        return values * self.calls


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "item": (lambda x: x * x.sum().item(), r"value on the host.*_local_scalar_dense.*test_tape.py line \d+"),
    "if": (lambda x: x if x.sum() > 0 else -x, "value on the host"),
    "tolist": (lambda x: x * x.tolist()[0], "value on the host.*tolist"),
    "numpy": (lambda x: x * float(x.numpy()[0]), "value on the host.*numpy"),
    "equal": (lambda x: x * torch.equal(x, x), "value on the host"),
    "boolean index": (lambda x: x[x > 0], "size of a result depends on values"),
    "assigned by a boolean index": (lambda x: x.clone().index_put_((x > 0,), x.new_zeros(())), "depends on values"),
    "nonzero": (lambda x: x.nonzero(), "size of a result depends on values"),
    "unique": (lambda x: x.unique(), "size of a result depends on values"),
    "repeated by values": (lambda x: x.repeat_interleave(torch.ones(4, dtype=torch.int64)), "depends on values"),
    "tensor": (lambda x: x + torch.tensor([1.0]), "makes a tensor from values of the host"),
    "from numpy": (lambda x: x + torch.from_numpy(np.ones(4, np.float32)), "from values of the host"),
    "own generator": (lambda x: x + torch.rand(4, generator=torch.Generator()), "a generator of its own"),
    "another device": (lambda x: x + x.to("meta").new_zeros(4, device="cpu"), "copies between cpu and meta"),
    "a counter": (_Counter(), r"not the same each time.*mul.*, 2\).*, 3\)"),
}


def capture(step: Callable[[Tensor], Tensor]) -> None:
    steps = CapturedSteps(CPU)
    for _ in range(NUM_WATCHED):
        steps.take("step", step, torch.ones(4))
    assert steps.num_captured == 1


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_could_not_repeat_is_refused(name: str) -> None:
    step, words = REFUSED[name]
    with pytest.raises(CaptureRefused, match=f"(?s)the training step cannot be captured: .*{words}"):
        capture(step)


def test_memory_that_is_new_in_each_step_is_refused() -> None:
    """A replay would read the memory of the captured step for ever."""
    fresh = iter([torch.full((4,), float(number)) for number in range(NUM_WATCHED)])
    with pytest.raises(CaptureRefused, match="not the same each time"):
        capture(lambda x: x + next(fresh))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_replays_equal_the_same_steps_taken_one_by_one(kind: type[torch.optim.Optimizer]) -> None:
    """With dropout, statistics, views, steps of two shapes, and a learning rate that changes."""

    def make() -> tuple[nn.Module, torch.optim.Optimizer]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = nn.Sequential(
                nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.3)
            )
            model = model.append(nn.Linear(8, 3)).double()
        return model, kind(model.parameters(), lr=0.1, weight_decay=0.01)

    def step_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[Tensor, Tensor], Tensor]:
        def step(inputs: Tensor, labels: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs.view(len(labels), -1)), labels)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    (ours, captured), (theirs, eager) = make(), make()
    generator, steps = torch.Generator().manual_seed(1), CapturedSteps(CPU)
    ours_step, theirs_step, losses = step_of(ours, captured), step_of(theirs, eager), []
    for number in range(60):
        for optimizer in (captured, eager):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
        steps.prepare(captured)
        size = 5 if number % 3 == 2 else 8
        inputs = torch.rand(size, 2, 3, generator=generator, dtype=torch.float64)
        labels = torch.randint(3, (size,), generator=generator)
        with torch.random.fork_rng():
            torch.manual_seed(number)
            losses.append(steps.take("step", ours_step, inputs, labels).clone())
        with torch.random.fork_rng():
            torch.manual_seed(number)
            torch.testing.assert_close(losses[-1], theirs_step(inputs, labels), atol=1e-12, rtol=0)
    assert steps.num_captured == 2
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-12, rtol=0, msg=name)
    assert len({float(loss) for loss in losses}) == 60


def test_a_replay_calls_no_code_of_the_model() -> None:
    calls = 0

    def step(values: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return values * 2

    steps = CapturedSteps(CPU)
    results = [float(steps.take("step", step, torch.full((), float(number)))) for number in range(9)]
    assert results == [2.0 * number for number in range(9)]
    assert calls == NUM_WATCHED
