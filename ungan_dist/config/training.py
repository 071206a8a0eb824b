"""The classifier, its training recipe, and the shadow models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ungan_dist.config.attack import QueryView
from ungan_dist.config.checks import ADDED, not_negative, positive, within
from ungan_dist.config.own.functions import check_own


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The classifier."""

    name: Literal["small_cnn", "resnet18", "resnet18_cifar", "vit_small", "mlp"] = "small_cnn"
    """small_cnn: three convolutions. resnet18: torchvision's own. resnet18_cifar: 3×3 stem, no max-pool. vit_small:
    torchvision's VisionTransformer with patches of 4 × 4 pixels, 6 layers of width 192, for square images. mlp: linear
    layers with ReLU, for features of any shape."""
    width: int = 16
    """Channels of the small CNN's first stage; other models ignore it."""
    widths: tuple[int, ...] = field(default=(256, 128), metadata=ADDED)
    """Widths of the hidden layers of the MLP; other models ignore them."""
    factory: str | None = field(default=None, metadata=ADDED)
    """``module:function`` of your own, or a model of a library: ``torchvision:NAME``, ``timm:NAME``,
    ``transformers:CLASS`` or ``transformers:FOLDER`` with a config.json; overrides the name. It is called with
    ``num_classes=`` and, if it names one, ``channels=`` or ``in_chans=``; for a table also ``features=`` or
    ``in_features=``, the number of columns. It returns an nn.Module that maps [batch, channels, height, width], or
    [batch, features], to logits [batch, num_classes], alone, named ``logits``, or first in a tuple; the convolution
    that the images enter is fitted to their channels. A run is identified by this text and by the names and shapes of
    the model's weights, not by their code."""
    options: tuple[str, ...] = field(default=(), metadata=ADDED)
    """Further arguments of the factory, or values of the config of transformers, such as hidden_size=192,patch_size=4.
    Values are JSON, or else text."""
    initial_seed: int | None = field(default=None, metadata=ADDED)
    """Seed of the initial weights of every model. Defaults to a seed of its own for each model."""

    def __post_init__(self) -> None:
        positive(width=self.width, **{f"model.widths[{place}]": width for place, width in enumerate(self.widths)})
        not_negative(**{"model.initial_seed": self.initial_seed})
        if self.options and self.factory is None:
            raise ValueError("model.options are for --model: name a function, or a model of a library")
        for entry in self.options:
            if not entry.partition("=")[0].strip().isidentifier() or "=" not in entry:
                raise ValueError(
                    f"model.options must be like hidden_size=192,patch_size=4, got {','.join(self.options)}"
                )
        if self.factory is not None and not all(self.factory.partition(":")[::2]):
            raise ValueError(f"model.factory must be module:function, got {self.factory!r}")
        if self.factory is not None and self.factory.startswith("__main__:"):
            raise ValueError(
                f"model.factory {self.factory} names the script or notebook itself, which the worker processes do not "
                f"import: move the function to a file of its own beside it, such as models.py, and write "
                f"models:{self.factory.partition(':')[2]}"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of training examples; each draw depends only on (seed, epoch, example)."""

    padding: int = 0
    """Zero pixels added on each side before a random crop back to size; 0 turns the crop off."""
    flip: bool = False
    """Mirror left and right with probability one half."""
    factory: str | None = field(default=None, metadata=ADDED)
    """``module:function`` of your own that is called without arguments and returns a transform, such as one of
    torchvision.transforms.v2. It is applied after crop and flip, to uint8 pixels [channels, height, width]."""
    factory_source: str = field(default="", metadata=ADDED | {"derived": True})
    """The factory and the hash of its source, as ``module:function=HASH``. It follows from ``factory``."""

    def __post_init__(self) -> None:
        not_negative(padding=self.padding)
        if self.factory is not None:
            check_own(self.factory, "augmentation")


Precision = Literal["fp32", "tf32", "bf16"]
MemoryFormat = Literal["auto", "contiguous", "channels_last"]
Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["cosine", "constant", "step", "one_cycle"]
LARGEST_ADAM_RATE = 0.01
"""Learning rate above which adam and adamw are warned of."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Training recipe of the original, Retrain and every shadow model."""

    epochs: int = 40
    """Passes over the training set."""
    batch_size: int = 256
    """Examples per step, over all processes together."""
    learning_rate: float = 0.1
    """Learning rate at the start; with a warm-up, after it; with one_cycle, the highest."""
    momentum: float = 0.9
    """SGD momentum; adam and adamw have their own, torch's 0.9 and 0.999."""
    weight_decay: float = 0.0
    """L2 penalty; with adamw, weight decay apart from the gradient."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training examples; evaluation uses none."""
    num_threads: int = 1
    """Torch threads for training on a CPU. Results depend on it, so it is part of a run's identity."""
    precision: Precision = field(default="fp32", metadata=ADDED)
    """fp32: float32 without TF32. tf32: TF32 products, which need a GPU. bf16: bfloat16 with float32 weights, faster
    on GPUs and on CPUs with AMX or AVX-512 BF16. Evaluation is always fp32."""
    memory_format: MemoryFormat = field(default="auto", metadata=ADDED)
    """Layout of images and convolution weights in memory. auto: channels_last for the classifiers of model.name with
    convolutions of 3 or more input channels; contiguous for your own model, which may need it."""
    num_workers: int = 1
    """Data-parallel processes for the original and each method; with shadows.data_parallel also for shadow models.
    batch_size is the total, so a run can continue with fewer processes: results differ by rounding only."""
    sync_batch_norm: bool = True
    """With several workers, use batch-norm statistics of the whole batch, as one process does. Without it, each worker
    uses its own rows: faster, but the number of workers then changes results and is part of a run's identity."""
    optimizer: Optimizer = field(default="sgd", metadata=ADDED)
    """The optimizer, as torch defines it. The learning rate stays as it is: set one for adam and adamw."""
    nesterov: bool = field(default=False, metadata=ADDED)
    """Nesterov's momentum, for sgd."""
    schedule: Schedule = field(default="cosine", metadata=ADDED)
    """Learning rate of each epoch. cosine: fall to 0. constant. step: multiply by step_factor every step_epochs.
    one_cycle: rise and fall with each step, as torch's OneCycleLR without a cycle of the momentum."""
    warmup_epochs: int = field(default=0, metadata=ADDED)
    """Epochs at the start in which the learning rate rises in equal parts. With one_cycle, the epochs of its rise;
    0 is 30 % of all epochs."""
    step_epochs: int = field(default=30, metadata=ADDED)
    """Epochs between two falls of the schedule step; the first must come before the end of the training."""
    step_factor: float = field(default=0.1, metadata=ADDED)
    """Factor of each fall of the schedule step."""
    label_smoothing: float = field(default=0.0, metadata=ADDED)
    """Share of each label that is spread evenly over all classes. Methods keep their own losses."""
    gradient_clipping: float | None = field(default=None, metadata=ADDED)
    """Largest norm of the gradient of all weights together; longer ones are scaled down. Defaults to no limit."""
    ema: float | None = field(default=None, metadata=ADDED)
    """Decay per step of an exponential moving average of weights and running statistics, which begins at the initial
    weights. The averages are the trained model: they are audited, saved and unlearned from. Defaults to none."""
    function: str | None = field(default=None, metadata=ADDED)
    """``module:function`` of your own that trains the original, Retrain and every shadow model in place of this recipe:
    ``(model, dataset, *, seed, device, on_progress) -> model``. Of the other options, it sees augment alone; methods
    that unlearn use them as before."""
    function_source: str = field(default="", metadata=ADDED | {"derived": True})
    """The function and the hash of its source, as ``module:function=HASH``. It follows from ``function``."""
    nondeterministic: bool = field(default=False, metadata=ADDED)
    """Accept a function that gives two results for one seed. The same models cannot be trained again then."""

    def __post_init__(self) -> None:
        positive(
            num_workers=self.num_workers,
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            num_threads=self.num_threads,
        )
        positive(**{"train.step_epochs": self.step_epochs, "train.step_factor": self.step_factor})
        positive(**{"train.gradient_clipping": self.gradient_clipping})
        not_negative(momentum=self.momentum, weight_decay=self.weight_decay)
        not_negative(**{"train.warmup_epochs": self.warmup_epochs})
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"train.label_smoothing must be at least 0 and below 1, got {self.label_smoothing}")
        if self.ema is not None:
            within(0, 1, **{"train.ema": self.ema})
        if self.function is not None:
            check_own(self.function, "training function")
            if self.num_workers > 1:
                raise ValueError(
                    f"train.function {self.function} trains a model in one process: leave train.num_workers at 1, "
                    f"and let workers train several models at once"
                )
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise ValueError(
                f"train.nesterov needs sgd with a momentum, got train.optimizer {self.optimizer} and train.momentum "
                f"{self.momentum:g}"
            )

    def list_warnings(self) -> tuple[str, ...]:
        """List settings that are allowed and probably not meant.

        Examples:
            >>> TrainConfig(optimizer="adamw", learning_rate=1e-3).list_warnings()
            ()
        """
        if self.function is None and self.optimizer != "sgd" and self.learning_rate > LARGEST_ADAM_RATE:
            return (
                f"train.learning_rate {self.learning_rate:g} is one for SGD. {self.optimizer} rarely trains with more "
                f"than {LARGEST_ADAM_RATE:g}; its default in torch is 0.001. Set --train.learning-rate too",
            )
        return ()

    @property
    def has_own_code(self) -> bool:
        """Whether functions of the user's own take part in the training."""
        return self.function is not None or self.augment.factory is not None

    @property
    def num_passes(self) -> int:
        """Passes over the training set of which the length is known: one call of a function counts as one."""
        return self.epochs if self.function is None else 1


TOGETHER = ("branches", "stacked")
"""Engines that train all models of a unit at once."""
CAPTURING = ("graph", "branches")
"""Engines that capture the training step."""


@dataclass(frozen=True, kw_only=True)
class ShadowConfig:
    """The fleet of shadow models."""

    num_models: int = 256
    """Number of shadow models; every example is a member of exactly half of them. A larger number extends a run."""
    unit_size: int = 8
    """Shadow models that the engines branches and stacked train at once; even, because they form pairs of
    complementary halves. Without effect on the other engines, which commit each pair."""
    queries: tuple[QueryView, ...] = ("plain",)
    """Views of each example on which every model is evaluated for the attack. plain: as it is. flip: mirrored. shift:
    one pixel to the right and down. 18: two flips × nine shifts by one pixel or none, as in the public code of LiRA;
    new pixels are 0."""
    seed: int = 0
    """Seed of the membership matrix and of every shadow model's training."""
    engine: Literal["auto", "serial", "graph", "branches", "stacked"] = "auto"
    """serial: train one model after another. graph: capture a training step once, as a CUDA graph on a GPU, and replay
    it for model after model, also for the original and the methods. branches: capture the steps of all models of a unit
    together, each on a stream of its own. stacked: train all models of a unit at once (torch.func). auto: serial on a
    CPU and with shadows.data_parallel; on a GPU what a short measurement finds to be fastest."""
    shared_initialisation: bool = field(default=False, metadata=ADDED)
    """Give all shadow models, the original and Retrain the same initial weights, as the authors' code does: sets
    model.initial_seed to shadows.seed, unless it is set."""
    data_parallel: bool = field(default=False, metadata=ADDED)
    """Train each shadow model with all train.num_workers processes, for large or slow models. Without it, one process
    trains a unit, and workers train units in parallel."""

    def __post_init__(self) -> None:
        if self.num_models < 0 or self.num_models % 2:  # a quick audit has none
            raise ValueError(f"num_models must be even and at least 2, got {self.num_models}")
        if self.unit_size < 2 or self.unit_size % 2:
            raise ValueError(f"unit_size must be even and at least 2, got {self.unit_size}")
        if self.data_parallel and self.engine not in ("auto", "serial"):
            raise ValueError(
                f"shadows.data_parallel trains one model with several processes, shadows.engine {self.engine} trains "
                f"models in one process: choose one of them"
            )
        not_negative(**{"shadows.seed": self.seed})
        if not self.queries or len(set(self.queries)) != len(self.queries):
            raise ValueError(f"queries must name at least one view, each once, got {self.queries}")
        if "18" in self.queries and len(self.queries) > 1:
            raise ValueError(f"the queries 18 contain all other views: name them alone, got {self.queries}")
