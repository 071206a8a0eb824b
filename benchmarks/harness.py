"""Compare speeds: arms interleaved in one process, the median of paired ratios with a bootstrap interval."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import triton

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Speed-up over a rival, from paired runs."""

    rival: str
    rival_ms: float
    ours_ms: float
    ratio: float
    interval: tuple[float, float]
    """95 %, bootstrapped over pairs."""
    num_pairs: int


def compare(ours: Callable[[], object], rivals: Mapping[str, Callable[[], object]], *, num_pairs: int) -> list[Ratio]:
    """Time A B A B …, so that a drifting clock affects both arms. The first run of each arm is not counted."""
    if num_pairs < 20:
        raise ValueError(f"num_pairs must be at least 20 for an interval, got {num_pairs}")
    for arm in (ours, *rivals.values()):
        arm()
    return [
        summarise(name, np.array([(milliseconds(rival), milliseconds(ours)) for _ in range(num_pairs)]))
        for name, rival in rivals.items()
    ]


def summarise(rival: str, pairs: np.ndarray) -> Ratio:
    """Summarise paired milliseconds of a rival and of ours, one pair in each row."""
    ratios = pairs[:, 0] / pairs[:, 1]
    draws = np.random.Generator(np.random.Philox(0)).choice(ratios, (2000, len(pairs)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return Ratio(
        rival=rival,
        rival_ms=float(np.median(pairs[:, 0])),
        ours_ms=float(np.median(pairs[:, 1])),
        ratio=float(np.median(ratios)),
        interval=(float(low), float(high)),
        num_pairs=len(pairs),
    )


def graphed(step: Callable[[], object]) -> Callable[[], None]:
    """Capture a step in a CUDA graph, after three runs on a side stream in which libraries initialise."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def peak_bytes(step: Callable[[], object]) -> int:
    """Return the device memory that a step allocates at its peak."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def write(name: str, rows: list[dict[str, object]], **more: object) -> Path:
    """Write measured rows with commit, GPU and versions. Tables are generated from this file."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    changes = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    measured_on = {
        "commit": commit + ("+changes" if changes else ""),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "triton": triton.__version__,
    }
    path.write_text(json.dumps({"measured_on": measured_on, "rows": rows, **more}, indent=2, ensure_ascii=False) + "\n")
    return path


def as_row(subject: str, ratio: Ratio, **more: object) -> dict[str, object]:
    """Make one row of a results file."""
    return {"subject": subject, **asdict(ratio), **more}


def milliseconds(arm: Callable[[], object]) -> float:
    """Time one call, on the GPU if there is one."""
    if torch.cuda.is_available():
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        arm()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    begun = time.perf_counter()
    arm()
    return (time.perf_counter() - begun) * 1e3
