"""Count the operations that a training step dispatches to a GPU, and how often the host waits for it, on a pretend GPU.

Run ``python benchmarks/step_counts.py EARLIER`` with a clone of the earlier version. Views are not counted. A step's
counts are those of the second half of a pass of 10 steps more than those of the first.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUM_STEPS = 4
"""Steps of each kind that are counted, after as many that are not."""


def count() -> dict[str, list[float]]:
    """Return operations and waits of one step of each kind, with the version that ``PYTHONPATH`` names."""
    sys.path.append(str(ROOT / "tests/helpers"))
    import copy
    import dataclasses

    import torch
    from pretend_device import DEVICE, pretend_device

    from ungan_dist.config.methods import UnGANConfig
    from ungan_dist.config.recipes import cifar10_small
    from ungan_dist.data.examples import Examples, make_normalisation_table
    from ungan_dist.methods.request import Request
    from ungan_dist.methods.ungan import algorithm
    from ungan_dist.methods.ungan.critic_network import init_critic
    from ungan_dist.methods.ungan.sampler import Sampler
    from ungan_dist.training.models import build, frozen_copy
    from ungan_dist.training.train import train_pass
    from ungan_dist.training.world import World

    recipe = dataclasses.replace(cifar10_small().train, batch_size=32)
    found: dict[str, list[float]] = {}
    with pretend_device() as counts:
        device = torch.device(DEVICE)
        images = torch.randint(0, 256, (1500, 32, 32, 3), dtype=torch.uint8).to(device)
        data = Examples(
            images=images,
            labels=(torch.arange(1500) % 10).to(device),
            table=make_normalisation_table((0.5,) * 3, (0.25,) * 3).to(device),
            num_classes=10,
        )
        model = build(cifar10_small().model, channels=3, num_classes=10, seed=0, device=device)
        if hasattr(recipe, "memory_format"):
            from ungan_dist.training.models import use_memory_format

            use_memory_format(model, cifar10_small().model, recipe.memory_format)
            data = dataclasses.replace(data, channels_last=True)
        make_sgd: Callable[..., torch.optim.Optimizer] = torch.optim.SGD
        momentum = make_sgd(model.parameters(), lr=0.1, momentum=0.9)

        def counted(kind: str, run: Callable[[int], object]) -> None:
            """Record how much more happens in twice as many steps."""
            seen: list[tuple[int, int]] = []
            run(NUM_STEPS)
            for steps in (NUM_STEPS, 2 * NUM_STEPS):
                counts.operations.clear()
                counts.waits.clear()
                run(steps)
                seen.append((sum(counts.operations.values()), sum(counts.waits.values())))
            found[kind] = [(after - before) / NUM_STEPS for before, after in zip(*seen, strict=True)]

        def train_steps(steps: int) -> None:
            members = torch.arange(32 * steps).to(device)
            train_pass(model, data, members, momentum, batch_size=32, seed=0, epoch=0, augment=recipe.augment)

        counted("training", train_steps)
        original = frozen_copy(model)
        request = Request(
            original=original, fresh=copy.deepcopy(model), data=data,
            retain=torch.arange(1000).to(device), forget=torch.arange(1000, 1256).to(device),
            unseen=torch.arange(1256, 1500).to(device), train=recipe, seed=0, world=World(device=device),
        )  # fmt: skip
        config = UnGANConfig()
        sampler, generator = Sampler(request, config), request.copy_original()
        critic = init_critic(10, config.critic_widths, seed=0, dtype=data.table.dtype, device=device)
        adam, sgd = torch.optim.Adam(generator.parameters()), torch.optim.SGD(critic, lr=0.1)
        steps = {
            "UnGAN, critic": lambda: algorithm.critic_step(critic, generator, sampler, sgd, config),
            "UnGAN, generator": lambda: algorithm.generator_step(critic, generator, sampler, adam),
            "UnGAN, fine-tuning": lambda: algorithm.fine_tuning_step(generator, original, sampler, adam, config),
        }
        for kind, step in steps.items():
            counted(kind, lambda number, step=step: [step() for _ in range(number)])
    return found


def count_in(code: Path = ROOT) -> dict[str, list[float]]:
    """Count with the version of a clone, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", __file__, "--count"]
    run = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def main() -> None:
    if sys.argv[1:] == ["--count"]:
        print(json.dumps(count()))
        return
    from harness import write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path, metavar="EARLIER", help="a clone of the earlier version")
    earlier = parser.parse_args().earlier.resolve()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=earlier, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, list[float]]] = {}
    for name, code in (("before", earlier), ("after", ROOT)):
        found[name] = count_in(code)
    rows: list[dict[str, object]] = [
        {
            "subject": kind,
            "operations_before": found["before"][kind][0],
            "operations": operations,
            "waits_before": found["before"][kind][1],
            "waits": waits,
        }
        for kind, (operations, waits) in found["after"].items()
    ]
    print(write("step_counts", rows, earlier=commit.stdout.strip()))


if __name__ == "__main__":
    main()
