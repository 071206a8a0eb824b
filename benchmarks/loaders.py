"""Time loaders against each other: ``python benchmarks/loaders.py [--quick]``, minutes on two idle cores.

The data are CIFAR-10's first 10,000 training images (Parquet, in the folder CIFAR10_PARQUET) and synthetic JPEG files
of 256 pixels. Every arm delivers float32 batches [batch, channels, height, width], randomly cropped and mirrored, in a
new random order at each pass. FFCV's stock pipeline is also timed as published, which leaves pixels as bytes. Its
channels stay last, as is its default, because the other order would cost it two copies. All arms take turns in one
process, and a pass over the set is one sample. ``--quick`` uses fewer images. ``loader_limits.py`` measures the parts
of our loader.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from harness import RESULTS, as_row, compare, write
from PIL import Image
from torch import Tensor

from ungan_dist.config.training import AugmentConfig
from ungan_dist.data.examples import Examples, draw_pass, gather_batches, make_normalisation_table
from ungan_dist.data.ffcv.availability import import_ffcv, keep_torch_threads
from ungan_dist.data.ffcv.file import BetonLocation, prepare_beton, read_beton
from ungan_dist.data.rows import split_pass
from ungan_dist.data.sources.source import CIFAR10_MEAN, CIFAR10_STD, Source

NUM_PAIRS = 20
THREADS = 2
COLUMNS = ("img", "image"), ("label",)
Pass = Callable[[int], Iterator[Tensor]]
"""The batches of one epoch."""


def cifar(count: int) -> Source:
    """Read CIFAR-10's first training images."""
    if "CIFAR10_PARQUET" not in os.environ:
        raise SystemExit("set CIFAR10_PARQUET to the folder of CIFAR-10's train.parquet")
    rows = pq.read_table(Path(os.environ["CIFAR10_PARQUET"]) / "train.parquet").slice(0, count)
    pictures, labels = (rows[next(name for name in rows.column_names if name in names)] for names in COLUMNS)
    files = (io.BytesIO(picture["bytes"]) for picture in pictures.to_pylist())
    images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return _source(images, labels.to_numpy(), "CIFAR-10, 32 × 32", ())


def synthetic(count: int) -> Source:
    """Draw smooth images of 256 × 256 pixels as JPEG files of quality 90."""
    generator = np.random.default_rng(0)
    jpegs: list[bytes] = []
    for _ in range(count):
        small = Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        small.resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        jpegs.append(buffer.getvalue())
    images = np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])
    return _source(images, np.arange(count) % 10, "synthetic JPEG, 256 × 256", tuple(jpegs))


SUBJECTS = ((cifar, 10_000, 4, 256), (synthetic, 1024, 16, 64))
"""Data, number of images, padding of the crop, and batch size."""


def _source(images: np.ndarray, labels: np.ndarray, title: str, jpegs: tuple[bytes, ...]) -> Source:
    return Source(
        images=images,
        labels=labels.astype(np.int64),
        num_classes=10,
        class_names=tuple(map(str, range(10))),
        title=title,
        bundled=False,
        test=None,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
        jpegs=jpegs,
    )


def ours(source: Source, place: BetonLocation, augment: AugmentConfig, batch: int, *, in_file: bool) -> Pass:
    """Make one of our loaders: FFCV's file or resident pixels."""
    table = make_normalisation_table(source.mean, source.std)
    images: object = torch.from_numpy(source.images)
    if in_file:
        from ungan_dist.data.ffcv.images import FfcvImages

        beton, _ = read_beton(place)
        images = FfcvImages(place.path, beton, source.mean, source.std, device=torch.device("cpu"), num_threads=THREADS)
    data = Examples(images=images, labels=torch.from_numpy(source.labels), table=table, num_classes=10)  # pyright: ignore
    members = torch.arange(len(source.images))

    def one_pass(epoch: int) -> Iterator[Tensor]:
        drawn = draw_pass(data, members, seed=0, epoch=epoch, augment=augment)
        return gather_batches(data, [drawn[part] for part in split_pass(len(drawn), batch)])

    return one_pass


def stock(place: BetonLocation, augment: AugmentConfig, batch: int, *, as_float: bool) -> Pass:
    """Make FFCV's own pipeline: decode, flip, translate, convert, and optionally normalise to float32."""
    from ffcv.fields.decoders import SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import NormalizeImage, RandomHorizontalFlip, RandomTranslate, ToTensor, ToTorchImage

    mean, std = (np.array(values) * 255 for values in (CIFAR10_MEAN, CIFAR10_STD))
    operations = [SimpleRGBImageDecoder(), RandomHorizontalFlip(), RandomTranslate(padding=augment.padding)]
    if as_float:
        operations += [NormalizeImage(mean, std, np.float32)]
    operations += [ToTensor(), ToTorchImage()]
    with keep_torch_threads():
        loader = Loader(
            str(place.path),
            batch_size=batch,
            num_workers=THREADS,
            order=OrderOption.RANDOM,
            seed=0,
            drop_last=False,
            pipelines={"image": operations, "label": None},
        )

    def one_pass(epoch: int) -> Iterator[Tensor]:
        for (images,) in loader:
            yield images

    return one_pass


class Decoded(torch.utils.data.Dataset[Tensor]):
    """Pixels or JPEG files in memory, with torchvision's transforms, for torch's DataLoader."""

    def __init__(self, source: Source, augment: AugmentConfig) -> None:
        from torchvision.transforms import v2

        self._images, self._jpegs = source.images, source.jpegs
        self._transform = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomCrop(source.images.shape[1:3], padding=augment.padding),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(CIFAR10_MEAN, CIFAR10_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Tensor:
        jpeg = self._jpegs[index] if self._jpegs else None
        picture = self._images[index] if jpeg is None else Image.open(io.BytesIO(jpeg)).convert("RGB")
        return self._transform(picture)


def data_loader(source: Source, augment: AugmentConfig, batch: int, *, num_workers: int) -> Pass:
    """Make torch's DataLoader. Its processes persist, as FFCV's compiled code does."""
    loader = torch.utils.data.DataLoader(
        Decoded(source, augment),
        batch_size=batch,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
    return lambda epoch: iter(loader)


class Arm:
    """A loader under test: its passes, the cost of the first one, and its CPU seconds."""

    def __init__(self, make: Callable[[], Pass], num_examples: int) -> None:
        begun = time.perf_counter()
        self._pass = make()
        self._epoch, self.num_examples = 0, num_examples
        self.seconds_to_first = 0.0
        self._run(begun)
        self.cpu_s: list[float] = []
        self.first_batch_s: list[float] = []

    def __call__(self) -> None:
        before, begun = _cpu_seconds(), time.perf_counter()
        self.first_batch_s.append(self._run(begun))
        self.cpu_s.append(_cpu_seconds() - before)

    def _run(self, begun: float) -> float:
        """Run one pass, check that it delivers every image, and return the seconds until its first batch."""
        seen, first = 0, 0.0
        for images in self._pass(self._epoch):
            first = first or time.perf_counter() - begun
            seen += len(images)
        assert seen == self.num_examples, f"{seen} of {self.num_examples} images"
        self.seconds_to_first = self.seconds_to_first or first
        self._epoch += 1
        return first


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and its workers. Those of live workers come from /proc."""
    own = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    ticks = 0
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return own + ticks / os.sysconf("SC_CLK_TCK")


def measure(source: Source, folder: Path, augment: AugmentConfig, batch: int) -> list[dict[str, object]]:
    """Compare ours in FFCV with every other arm on one data set."""
    place = BetonLocation(output=folder, data_hash=source.content_hash)
    facts = prepare_beton(source, place)
    count = len(source.images)
    makers: dict[str, Callable[[], Pass]] = {
        "ours in FFCV": lambda: ours(source, place, augment, batch, in_file=True),
        "FFCV stock, bytes": lambda: stock(place, augment, batch, as_float=False),
        "FFCV stock, normalised float32": lambda: stock(place, augment, batch, as_float=True),
        "resident (reference on the CPU)": lambda: ours(source, place, augment, batch, in_file=False),
    }
    for workers in (0, 1, 2):
        makers[f"torch DataLoader, {workers} workers"] = lambda workers=workers: data_loader(
            source, augment, batch, num_workers=workers
        )
    arms = {name: Arm(make, count) for name, make in makers.items()}
    rivals = {name: arm for name, arm in arms.items() if name != "ours in FFCV"}
    ratios = compare(arms["ours in FFCV"], rivals, num_pairs=NUM_PAIRS)

    def costs(arm: Arm) -> dict[str, float]:
        return {
            "cpu_s_per_10k": float(np.median(arm.cpu_s)) / count * 1e4,
            "first_batch_ms": float(np.median(arm.first_batch_s)) * 1e3,
            "first_batch_ever_s": arm.seconds_to_first,
        }

    common = {"num_examples": count, "num_jpegs": facts["num_jpegs"], "threads": THREADS, "batch": batch}
    mine = arms["ours in FFCV"]
    return [
        as_row(
            source.title,
            ratio,
            **common,
            rival_images_per_s=count / ratio.rival_ms * 1e3,
            ours_images_per_s=count / ratio.ours_ms * 1e3,
            rival_costs=costs(arms[ratio.rival]),
            ours_costs=costs(mine),
        )
        for ratio in ratios
    ]


def main() -> None:
    """Measure and write ``results/loaders.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="an eighth of the data, into results/unpublished")
    quick = parser.parse_args().quick
    import_ffcv()
    torch.set_num_threads(THREADS)
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        rows: list[dict[str, object]] = []
        for make, count, padding, batch in SUBJECTS:
            source = make(count // (8 if quick else 1))
            rows += measure(source, Path(folder), AugmentConfig(padding=padding, flip=True), batch)
    for row in rows:
        row["load_average"] = [round(load[0], 2), round(os.getloadavg()[0], 2)]
        row["quick"] = quick
    path = write("loaders", rows, RESULTS / "unpublished" if quick else RESULTS)
    print(f"written to {path}" + ("" if quick else "; `python benchmarks/publish.py` publishes it"))


if __name__ == "__main__":
    main()
