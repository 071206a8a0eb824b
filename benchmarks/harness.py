"""Compare speeds: arms interleaved in one process, the median of paired ratios with a bootstrap interval or a range.

A suite is a module with a function ``measure`` that yields rows. A row has a subject, and any of these:

- a ``Ratio`` of two arms, with the error of what was timed and the tolerance: ``as_row``;
- ``counts``, which do not depend on the machine, and may not grow: ``count_row``;
- ``values``, measured once, with what they should be: ``value_row``.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import triton
from ratio_text import LEAST_FOR_INTERVAL

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks/results"
MIN_PAIRS = 20
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Speed-up over a rival, from paired runs."""

    rival: str
    rival_ms: float
    ours_ms: float
    ratio: float
    interval: tuple[float, float] | None
    """95 %, bootstrapped over pairs; None if they are fewer than eight."""
    num_pairs: int
    ratios: list[float]
    """Of each pair, from which two results files are compared."""

    def scale_rival(self, factor: float) -> Ratio:
        """Return the ratio with a rival that takes so many times as long, because only a part of it was timed."""
        interval = self.interval and (factor * self.interval[0], factor * self.interval[1])
        return replace(
            self,
            rival_ms=factor * self.rival_ms,
            ratio=factor * self.ratio,
            interval=interval,
            ratios=[factor * ratio for ratio in self.ratios],
        )


def compare(
    ours: Callable[[], object],
    rivals: Mapping[str, Callable[[], object]],
    *,
    num_pairs: int,
    least_pairs: int = MIN_PAIRS,
) -> list[Ratio]:
    """Time A B A B …, so that a drifting clock affects both arms. The first run of each arm is not counted.

    Args:
        ours: The arm under test.
        rivals: The arms that it is compared with, by name.
        num_pairs: Runs of each arm that are counted.
        least_pairs: Fewest pairs; lower it for arms of several seconds.
    """
    if num_pairs < least_pairs:
        raise ValueError(f"num_pairs must be at least {least_pairs}, got {num_pairs}")
    for arm in (ours, *rivals.values()):
        arm()
    return [
        summarise(name, np.array([(milliseconds(rival), milliseconds(ours)) for _ in range(num_pairs)]))
        for name, rival in rivals.items()
    ]


def summarise(rival: str, pairs: np.ndarray) -> Ratio:
    """Summarise paired milliseconds of a rival and of ours, one pair in each row."""
    ratios = pairs[:, 0] / pairs[:, 1]
    return Ratio(
        rival=rival,
        rival_ms=float(np.median(pairs[:, 0])),
        ours_ms=float(np.median(pairs[:, 1])),
        ratio=float(np.median(ratios)),
        interval=interval_of(bootstrap_medians(ratios)) if len(pairs) >= LEAST_FOR_INTERVAL else None,
        num_pairs=len(pairs),
        ratios=[round(float(ratio), 4) for ratio in ratios],
    )


def bootstrap_medians(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the medians of 2,000 samples, drawn with replacement."""
    draws = np.random.Generator(np.random.Philox(seed)).choice(values, (2000, len(values)))
    return np.median(draws, axis=1)


def interval_of(draws: np.ndarray) -> tuple[float, float]:
    """Return the interval that holds 95 % of the draws."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


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


def hardware() -> dict[str, object]:
    """Describe the machine, on which seconds depend."""
    from ungan_dist.runs.versions import describe_cpu

    facts: dict[str, object] = {"cpu": describe_cpu(), "cores": os.cpu_count(), "system": platform.system()}
    try:
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        facts["gpus"] = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]
    except (OSError, subprocess.CalledProcessError):
        facts["gpus"] = []
    return facts


def describe_commit(code: Path = ROOT) -> str:
    """Return the commit that is checked out, marked if code of the working tree differs from it."""
    git = ["git", "-C", str(code)]
    short = [*git, "rev-parse", "--short=12", "HEAD"]
    commit = subprocess.run(short, capture_output=True, text=True, check=True).stdout.strip()
    # suites write results while they run, and pages are made from those
    written = [":(exclude)benchmarks/results", ":(exclude)docs"]
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", *written], check=False).returncode
    return f"{commit}-dirty" if changed else commit


def write(name: str, rows: list[dict[str, object]], folder: Path = RESULTS, **more: object) -> Path:
    """Write measured rows with commit, hardware and versions. Tables are generated from this file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    measured_on = {
        "commit": describe_commit(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "numpy": np.__version__,
    }
    found = {"measured_on": measured_on, "hardware": hardware(), "rows": rows, **more}
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    return path


def as_row(
    subject: str, ratio: Ratio, *, error: float | None = None, tolerance: float = 0.0, **more: object
) -> dict[str, object]:
    """Make one row of a results file. Its times are left out where the result is wrong.

    Args:
        subject: What was timed.
        ratio: Both arms.
        error: Largest difference of our result from its definition.
        tolerance: Largest error of a correct result.
        more: Further values.
    """
    if error is None:
        return {"subject": subject, **asdict(ratio), **more}
    checked = {"subject": subject, "rival": ratio.rival, "error": error, "tolerance": tolerance}
    if not error <= tolerance:
        return {**checked, "refused": f"the result is wrong: its error is {error:.2g}, more than {tolerance:.2g}"}
    return {**checked, **asdict(ratio), **more}


def count_row(subject: str, **counts: float) -> dict[str, object]:
    """Make a row of counts, which do not depend on the machine. ``bench compare`` fails if one grows."""
    return {"subject": subject, "counts": counts}


def value_row(subject: str, *, target: str = "", met: bool | None = None, **values: object) -> dict[str, object]:
    """Make a row of values that were measured once.

    Args:
        subject: What was measured.
        target: What the values should be.
        met: Whether they are; defaults to no statement.
        values: Name → value; a name ends in its unit.
    """
    return {"subject": subject, "values": values, **({"target": target, "met": met} if target else {})}


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
