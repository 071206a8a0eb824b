"""Load a model of a run, and prepare pictures for it, from the run's folder or from object storage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import UInt8

from ungan_dist import store
from ungan_dist.errors import ConfigError
from ungan_dist.runs.record import CONFIG_FILE, FeatureFacts, PixelFacts, RunRecord, read_run
from ungan_dist.runs.views import split_place, split_url
from ungan_dist.urls import is_url, join_url, split_run

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor, nn

    from ungan_dist.attack.evidence import RecordPValues
    from ungan_dist.training.own_model import GivenModel


def load(
    run: str | Path,
    method: str,
    *,
    seed: int = 0,
    unlearning: int = 0,
    model: GivenModel | None = None,
    trust: bool = False,
) -> nn.Module:
    """Load an unlearned model of a run, in eval mode on the CPU.

    Opening a run executes no code of it. A model of your own is made by code, which you therefore name again.
    ``preprocess`` makes the model's input from pictures.

    Args:
        run: The run folder, or its URL in object storage.
        method: The method's name on the command line, for example ``"ungan"``.
        seed: The audit seed.
        unlearning: The number of the unlearning, for a run with several of each original.
        model: Your own model, for a run of one: the module that receives the weights, the function that makes it, or
            the function's name ``module:function``.
        trust: Import and call the function that the run's record names. Set it only for a run that you made.

    Raises:
        ConfigError: this is not a run folder, the run has no such model, or its model must be given.
        CorruptResult: the weights differ from those that were committed, or are another run's.

    Examples:
        >>> model = load("runs/digits-0123abcd", "ungan")  # doctest: +SKIP
        >>> model = load("runs/custom-0123abcd", "ungan", model=make_model)  # doctest: +SKIP
    """
    from ungan_dist.runs.kept_models import check_kept_model, place_weights
    from ungan_dist.runs.targets import target_marker
    from ungan_dist.training.own_model import make_model
    from ungan_dist.training.weights import load_weights

    url = run if isinstance(run, str) and is_url(run) else None
    marker = target_marker(seed, method, unlearning)
    folder = split_place(Path(run))[0] if url is None else _fetch(url, marker=marker)
    record = read_run(folder)
    path = folder / place_weights(method, seed, unlearning)
    if not path.is_file():
        there = sorted(str(p.relative_to(folder / "models"))[: -len(p.suffix)] for p in folder.glob("models/*/*"))
        raise ConfigError(f"{folder} has no model of {path.stem!r} for seed {seed}; it has (seed/method): {there}")
    try:
        check_kept_model(record, folder, method, seed, unlearning)
        made = make_model(
            record.config.model,
            architecture=record.architecture,
            channels=record.channels,
            num_classes=record.num_classes,
            size=record.input_size,
            given=model,
            trust=trust,
        )
        return load_weights(made, path)
    except ValueError as error:
        # the user's code or weights may have changed
        raise ConfigError(str(error)) from error


def load_p_values(run: str | Path, method: str, *, seed: int = 0, unlearning: int = 0) -> RecordPValues:
    """Measure the membership p value of each forget example of a finished run, from its stored log-odds.

    Nothing is trained and nothing is written. The result names examples, so it is personal data.

    A low ``p`` means something only against the non-members' share: a model that is merely more confident than the
    shadow models has low p values on examples that it never saw, too. ``non_member_p`` has the p values of the
    non-members. ``calibrated`` has the p value of each forget example calibrated against them.

    Args:
        run: The run folder, or ``RUN/reports/NAME``. Its data must be readable.
        method: The method's name on the command line, for example ``"ungan"``.
        seed: The audit seed.
        unlearning: The number of the unlearning, for a run with several of each original.

    Raises:
        ConfigError: this is not a run folder, the run was purged, or it has no such result.

    Examples:
        >>> found = load_p_values("runs/digits-0123abcd", "ungan")  # doctest: +SKIP
        >>> dict(zip(found.ids, found.calibrated))  # doctest: +SKIP
        >>> (found.p <= 0.05).mean(), (found.non_member_p <= 0.05).mean()  # doctest: +SKIP
    """
    from ungan_dist.runs.plan import reopen_plan
    from ungan_dist.runs.progress import silent
    from ungan_dist.runs.reporting import build_report
    from ungan_dist.runs.scoring import refuse_quick

    folder, place = split_place(Path(run))
    record = read_run(folder)
    refuse_quick(record.config.attack)
    report = build_report(reopen_plan(record, place), [], silent)
    there = {(item.method, item.seed, item.unlearning): item.p_values for item in report.evidence}
    found = there.get((method, seed, unlearning))
    if found is None:
        names = sorted({f"{one} (seed {number})" for one, number, _ in there})
        raise ConfigError(f"{folder} has no result of {method!r} for seed {seed}; it has {', '.join(names)}")
    return found


def preprocess(run: str | Path, pictures: np.ndarray | Tensor | Image | Sequence[Image]) -> Tensor:
    """Make the input of a run's models from pictures or features, as the run itself does for evaluation.

    Pixels are divided by 255 and normalised by the run's mean and standard deviation. PIL images are also turned as
    their EXIF orientation says, converted to grey or RGB, and resized if the run has ``source.resize``.

    Args:
        run: The run folder, or its URL in object storage.
        pictures: uint8 pixels [pictures, height, width, channels], as an array or a tensor; or PIL images. Of a run on
            features, numbers [examples, …] as in the file, which are standardised as the run's were.

    Returns:
        float32 [pictures, channels, height, width], or [examples, …], on the CPU.

    Raises:
        ConfigError: this is not a run folder, or it does not hold the normalisation.
        ValueError: the pictures are not uint8, or have another size or number of channels than those of the run; or
            features have another shape, or are not finite.

    Examples:
        >>> images = preprocess("runs/digits-0123abcd", pictures)  # doctest: +SKIP
        >>> logits = load("runs/digits-0123abcd", "ungan")(images)  # doctest: +SKIP
    """
    import torch

    from ungan_dist.data.examples import make_normalisation_table

    folder = _fetch(run) if isinstance(run, str) and is_url(run) else split_place(Path(run))[0]
    record = read_run(folder)
    if record.features is not None:
        return _scale_features(record.features, pictures)
    facts = record.pixels or _read_pixel_facts(folder, record)
    pixels = torch.from_numpy(_to_pixels(pictures, record.channels, record.config.source.resize))
    needed = (facts.height, facts.width, record.channels)
    if pixels.shape[1:] != needed:
        raise ValueError(
            f"the pictures have {tuple(pixels.shape[1:])} for height, width and channels; the run has {needed}"
        )
    table = make_normalisation_table(facts.mean, facts.std)
    return torch.stack([table[pixels[..., c].long(), c] for c in range(record.channels)], dim=1)


def _scale_features(facts: FeatureFacts, features: Any) -> Tensor:
    import torch

    from ungan_dist.attack.arrays import to_numpy
    from ungan_dist.data.sources.features import standardise, to_exact_floats

    values = to_exact_floats(to_numpy("features", features), "the argument")
    if values.shape[1:] != facts.shape:
        raise ValueError(f"the features have shape {values.shape[1:]} for each example; the run has {facts.shape}")
    return torch.from_numpy(standardise(values, facts.mean, facts.std))


def _to_pixels(pictures: Any, channels: int, resize: int | None) -> UInt8[np.ndarray, "pictures _ _ _"]:
    import numpy as np
    from PIL.Image import Image

    from ungan_dist.attack.arrays import describe, to_numpy

    images = [pictures] if isinstance(pictures, Image) else pictures
    if isinstance(images, Sequence) and len(images) and all(isinstance(image, Image) for image in images):
        return _stack(images, channels, resize)
    pixels = to_numpy("pictures", images)
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise ValueError(
            f"pictures must be PIL images, or uint8 pixels of shape [pictures, height, width, channels], got "
            f"{describe(images)}"
        )
    return np.ascontiguousarray(pixels)


def _stack(images: Sequence[Image], channels: int, resize: int | None) -> UInt8[np.ndarray, "pictures _ _ _"]:
    import numpy as np

    from ungan_dist.data.sources.decode import GREY_MODES, take_pixels

    if channels == 1 and (coloured := [image.mode for image in images if image.mode not in GREY_MODES]):
        raise ValueError(f"the run has grey pictures, got mode {coloured[0]}: convert with image.convert('L')")
    arrays = [take_pixels(image, resize)[..., :channels] for image in images]
    if len(sizes := {array.shape for array in arrays}) > 1:
        raise ValueError(f"the pictures have several sizes, {sorted(sizes)}: bring them to that of the run")
    return np.stack(arrays)


def _read_pixel_facts(folder: Path, record: RunRecord) -> PixelFacts:
    """Read from the prepared data what the records of older runs lack."""
    from ungan_dist.data.prepared import PreparedData

    output = folder.resolve().parent
    prepared = PreparedData(output=str(output), data_hash=record.data_hash)
    facts = store.committed(output, prepared.marker, id=record.data_hash, files=[prepared.images])
    if facts is None:
        raise ConfigError(
            f"{folder} is from before runs kept their normalisation, and {output / prepared.marker} is absent or "
            f"damaged: run the command of the run again, which adds it"
        )
    _, height, width, _ = store.read_array(output / prepared.images, mapped=True).shape
    return PixelFacts(height=height, width=width, mean=tuple(facts["mean"]), std=tuple(facts["std"]))


def _fetch(url: str, *, marker: str | None = None) -> Path:
    """Fetch the record of a run, and one result if named, and return their folder on this machine."""
    from ungan_dist.runs.storage.mirror import connect

    url, _ = split_url(url)
    output, name = split_run(url)
    mirror = connect(output)
    if not mirror.pull_json(f"{name}/{CONFIG_FILE}"):
        raise ConfigError(f"{url} is not a run: it has no readable {CONFIG_FILE}")
    if marker is not None and mirror.pull(name, marker) == "damaged":
        raise store.CorruptResult(f"{join_url(url, marker)} or one of its files is damaged: run the audit again")
    return mirror.folder / name
