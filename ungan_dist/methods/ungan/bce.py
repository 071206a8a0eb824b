"""UnGAN with binary cross-entropy: a critic that classifies outputs as forgotten or unseen, and joint steps."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from ungan_dist.config.methods import UnGANBCEConfig
from ungan_dist.data.examples import gather_rows
from ungan_dist.data.rows import Rows
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.request import Request, Unlearned
from ungan_dist.methods.ungan.sets import count_batches, evaluate_unseen, refuse_empty_sets
from ungan_dist.training.batch_norm import forward
from ungan_dist.training.batch_stream import BatchStream
from ungan_dist.training.optimizers import make_optimizer
from ungan_dist.training.train import take_step


def ungan_bce(request: Request, config: UnGANBCEConfig) -> Unlearned:
    """Train a classifier of outputs on forget and on unseen examples, and make the model fool it.

    Raises:
        ValueError: the forget, unseen or retain set is empty.
    """
    game = _Game(request, config)
    num_steps = config.steps or count_batches(request, game.batch_size)
    curves: dict[str, list[float]] = {"critic": [], "generator": [], "fine_tuning": []}
    epochs = request.epochs(curves=curves, **game.state)
    for epoch in epochs.iterate("epochs", config.epochs):
        request.prepare(*game.optimizers)
        game.generator.eval()
        num_critic_steps = config.critic_steps + (0 if epoch else config.critic_pretraining)
        of_critic = [game.train_critic() for _ in range(num_critic_steps)]
        game.generator.train()
        of_model = torch.stack([game.take_joint_step() for _ in range(num_steps)])
        if of_critic:
            curves["critic"].append(float(torch.stack(of_critic).mean()))
        for name, mean in zip(("generator", "fine_tuning"), request.world.sum(of_model.mean(0)).tolist(), strict=True):
            curves[name].append(mean)
    return Unlearned(model=game.generator.eval(), curves={name: curve for name, curve in curves.items() if curve})


class OutputClassifier(nn.Module):
    """The critic: does an output with this label come from an unseen example? Positive logits mean yes."""

    def __init__(self, num_classes: int, config: UnGANBCEConfig) -> None:
        super().__init__()
        first, second = config.critic_widths
        self.embedding = nn.Embedding(num_classes, config.label_embedding)
        self.layers = nn.Sequential(
            nn.Linear(num_classes + config.label_embedding, first),
            nn.GELU(),
            nn.Linear(first, second),
            nn.GELU(),
            nn.Linear(second, 1),
        )

    def forward(
        self, outputs: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        return self.layers(torch.cat([outputs, self.embedding(labels)], dim=1))[:, 0]


class _Game:
    """Model and critic with their optimizers, and a step of each.

    The critic is small, so each process computes all of it from the gathered outputs.
    """

    def __init__(self, request: Request, config: UnGANBCEConfig) -> None:
        refuse_empty_sets(request)
        self._request, self._config = request, config
        self.batch_size = config.batch_size or request.train.batch_size
        self.generator = request.copy_original()
        self._critic = _build_critic(request, config)
        self._optimizer = make_optimizer(torch.optim.Adam, self.generator.parameters(), lr=config.learning_rate)
        self._of_critic = make_optimizer(torch.optim.Adam, self._critic.parameters(), lr=config.critic_learning_rate)
        size = config.forget_batch_size or self.batch_size
        sets = {
            "retain": (request.retain, self.batch_size),
            "forget": (request.forget, min(size, len(request.forget))),
            "critic forget": (request.forget, min(size, len(request.forget))),
            "critic unseen": (request.unseen, min(size, len(request.unseen))),
        }
        self._streams = {
            name: BatchStream(
                request.data,
                indices,
                number,
                seed=derive_seed("ungan bce", name, request.seed),
                augment=request.train.augment if name == "retain" else None,
                augment_seed=derive_seed("ungan bce augment", request.seed),
            )
            for name, (indices, number) in sets.items()
        }
        self._unseen_logits = evaluate_unseen(request, self.batch_size)

    @property
    def optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return self._optimizer, self._of_critic

    @property
    def state(self) -> dict[str, object]:
        """What a checkpoint keeps."""
        return {
            "generator": self.generator,
            "critic": self._critic,
            "of_generator": self._optimizer,
            "of_critic": self._of_critic,
            **self._streams,
        }

    def train_critic(self) -> Float[Tensor, ""]:
        """Take a step of the critic on outputs for forget and unseen examples, and return its loss before."""
        request = self._request
        forget, unseen = next(self._streams["critic forget"]), next(self._streams["critic unseen"])
        num_forget, labels = len(forget), request.data.labels

        def step(share: Rows, forget: Tensor, unseen: Tensor) -> Float[Tensor, ""]:
            with torch.no_grad():
                own = forward(self.generator, gather_rows(request.data, share), num_rows=num_forget)
                outputs = request.world.gather(own, num_forget)
            of_forget = self._critic(outputs, labels[forget])
            of_unseen = self._critic(self._unseen_logits[unseen], labels[unseen])
            loss = _binary(of_forget, 0.0) + _binary(of_unseen, 1.0)
            self._of_critic.zero_grad()
            loss.backward()
            self._of_critic.step()
            return loss.detach()

        inputs = request.world.share(forget), forget.indices, unseen.indices
        return request.take_step((self, "critic"), step, *inputs)

    def take_joint_step(self) -> Float[Tensor, " losses"]:
        """Take a step on adversarial loss and cross-entropy, and return this process's parts of both."""
        request, config, world = self._request, self._config, self._request.world
        retain, forget = next(self._streams["retain"]), next(self._streams["forget"])
        num_retain, num_forget, labels = len(retain), len(forget), request.data.labels

        def step(retain: Rows, share: Rows, forget: Tensor) -> Float[Tensor, " losses"]:
            images = torch.cat([gather_rows(request.data, rows) for rows in (retain, share)])
            outputs = forward(self.generator, images, num_rows=num_retain + num_forget)
            of_retain, of_forget = outputs.split([len(retain), len(share)])
            everyone = world.gather(of_forget, num_forget)
            adversarial = _binary(self._critic(everyone, labels[forget]), 1.0) / world.size

            def cross_entropy() -> Tensor:
                return functional.cross_entropy(of_retain, labels[retain.indices])

            keep = world.partial_loss(cross_entropy, len(retain), num_retain, of_retain)
            take_step(
                adversarial + config.alpha * keep,
                self._optimizer,
                self.generator,
                share=len(images),
                num_rows=num_retain + num_forget,
                world=world,
            )
            return torch.stack([adversarial.detach(), keep.detach()])

        inputs = world.share(retain), world.share(forget), forget.indices
        return request.take_step((self, "joint"), step, *inputs)


def _build_critic(request: Request, config: UnGANBCEConfig) -> OutputClassifier:
    """Draw the critic's weights on the CPU, so that one seed gives the same critic on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed("ungan bce critic", request.seed))
        critic = OutputClassifier(request.data.num_classes, config)
    table = request.data.table
    return critic.to(table.device, table.dtype)


def _binary(logits: Float[Tensor, " batch"], target: float) -> Float[Tensor, ""]:
    """Return the binary cross-entropy of logits against one label for all."""
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))
