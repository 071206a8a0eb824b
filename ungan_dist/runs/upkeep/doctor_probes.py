"""What the doctor tries in a process of its own: ``python -m ungan_dist.runs.upkeep.doctor_probes NAME``.

A library that is broken may end the process that imports it, or hang; Triton's interpreter is chosen before torch is
imported. A probe prints what it did as its last line, and raises otherwise.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import tempfile
from importlib import metadata
from pathlib import Path


def has_cuda_device() -> bool:
    """As the driver says, before torch is imported."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def probe_torch() -> str:
    """A product and its gradient, whose values are known; on the GPU as well where there is one."""
    import torch

    devices = ["cpu"]
    if has_cuda_device():
        if not torch.cuda.is_available():
            raise RuntimeError("the driver sees a GPU, this build of torch does not")
        devices.append("cuda")
    for device in devices:
        x = torch.arange(6.0, device=device).reshape(2, 3).requires_grad_()
        (x @ x.T).sum().backward()
        expected = [[6.0, 10.0, 14.0]] * 2
        found = None if x.grad is None else x.grad.tolist()
        if found != expected:
            raise RuntimeError(f"on {device!r} a gradient is {found}, not {expected}")
    where = torch.cuda.get_device_name() if "cuda" in devices else "CPU, no GPU found"
    return f"{torch.__version__} computes ({where})"


def probe_triton() -> str:
    """A fused kernel against its definition: on the GPU where there is one, else in Triton's interpreter."""
    device = "cuda" if has_cuda_device() else "cpu"
    # read when Triton is first imported, which torch does
    os.environ["TRITON_INTERPRET"] = "1" if device == "cpu" else "0"

    import torch

    from ungan_dist.kernels import log_odds

    logits = torch.linspace(-3, 3, 24, device=device).reshape(2, 3, 4)
    labels = torch.tensor([0, 2, 3], device=device)
    fused = log_odds(logits, labels, impl="fused")
    torch.testing.assert_close(fused, log_odds(logits, labels, impl="reference"), rtol=1e-5, atol=1e-5)
    where = f"on {torch.cuda.get_device_name()}" if device == "cuda" else "in the interpreter, no GPU found"
    return f"{metadata.version('triton')} runs a kernel ({where})"


class _Pictures:
    """Eight pictures of 4 × 4 with their own numbers as labels."""

    def __init__(self) -> None:
        import numpy as np

        self.images = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.images[index], index


def probe_ffcv() -> str:
    """Writes a small .beton and reads it back, pixel for pixel."""
    from ungan_dist.data.ffcv.availability import import_ffcv

    import_ffcv()
    # by name: who checks types without FFCV has nothing to find
    fields, decoders, loading, transforms, writer = (
        importlib.import_module(f"ffcv.{module}")
        for module in ("fields", "fields.decoders", "loader", "transforms", "writer")
    )
    pictures = _Pictures()
    with tempfile.TemporaryDirectory(prefix="ungan-dist-doctor-") as folder:
        path = str(Path(folder) / "tiny.beton")
        kinds = {"image": fields.RGBImageField(write_mode="raw"), "label": fields.IntField()}
        writer.DatasetWriter(path, kinds, num_workers=1).from_indexed_dataset(pictures)
        pipelines = {
            "image": [decoders.SimpleRGBImageDecoder(), transforms.ToTensor()],
            "label": [decoders.IntDecoder(), transforms.ToTensor()],
        }
        loader = loading.Loader(
            path, batch_size=4, num_workers=1, order=loading.OrderOption.SEQUENTIAL, pipelines=pipelines
        )
        seen = 0
        for images, labels in loader:
            numbers = labels.flatten().numpy()
            if not (images.numpy() == pictures.images[numbers]).all():
                raise RuntimeError("a .beton file does not give back the pixels that were written")
            seen += len(numbers)
    if seen != len(pictures):
        raise RuntimeError(f"a .beton file of {len(pictures)} examples gives back {seen}")
    return f"{metadata.version('ffcv')} writes and reads a .beton file"


PROBES = {"torch": probe_torch, "triton": probe_triton, "ffcv": probe_ffcv}
ABSENT = 10
"""Exit code: the library is not installed."""


def main(name: str) -> int:
    """Runs a probe; returns the exit code."""
    try:
        print(PROBES[name]())
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return ABSENT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
