"""Scoring at the size of a large audit: 512 shadow models, 45,000 examples, 2 queries.

``python benchmarks/scoring.py`` compares CPU seconds with a loop over examples, and writes ``results/scoring.json``.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import harness
import numpy as np
from scipy.stats import norm

from ungan_dist import store
from ungan_dist.attack.lira import fit_shadows
from ungan_dist.data.membership import draw_membership

BLOCK, NUM_QUERIES = 8, 2


def write_shadows(folder: Path, membership: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Write synthetic log-odds in blocks of shadow models, as units do, and read them back."""
    num_shadows, num_examples = membership.shape
    paths: list[Path] = []
    for start in range(0, num_shadows, BLOCK):
        noise = generator.normal(size=(BLOCK, num_examples, NUM_QUERIES), scale=2.0).astype(np.float32)
        block = noise + membership[start : start + BLOCK, :, None]
        store.commit(folder, f"{start}.json", id="x", files={f"{start}.npy": store.array_bytes(block)})
        paths.append(folder / f"{start}.npy")
    return store.read_arrays(paths)


def score_one_by_one(shadows: np.ndarray, membership: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Score as public code does: one example at a time, in float32."""

    def score(example: int) -> float:
        members = shadows[membership[:, example], example]
        others = shadows[~membership[:, example], example]
        inside = norm.logpdf(target[example], members.mean(0), members.std(0))
        return float(np.mean(inside - norm.logpdf(target[example], others.mean(0), others.std(0))))

    return np.array([score(example) for example in range(len(target))])


def timed(function: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Return a result and the CPU seconds that it took."""
    start = time.process_time()
    return function(), time.process_time() - start


def measure(num_shadows: int, num_examples: int) -> dict[str, object]:
    """Score once and one by one: CPU seconds, peak memory of the process, and the largest difference of scores."""
    generator = np.random.default_rng(0)
    membership = draw_membership(num_shadows, num_examples, 0)
    with tempfile.TemporaryDirectory() as folder:
        shadows = write_shadows(Path(folder), membership, generator)
        target = generator.normal(size=(num_examples, NUM_QUERIES), scale=2.0).astype(np.float32)
        scores, ours = timed(lambda: fit_shadows(shadows, membership, variance="per_example").score(target))
        peak_kib = int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0])
        loop, loops = timed(lambda: score_one_by_one(shadows, membership, target))
    return {
        "subject": f"{num_shadows} shadow models × {num_examples} examples × {NUM_QUERIES} queries",
        "ours_cpu_seconds": ours,
        "loop_cpu_seconds": loops,
        "ratio": loops / ours,
        "peak_bytes": 1024 * peak_kib,
        "largest_difference": float(np.abs(scores - loop).max()),
    }


def main() -> None:
    row = measure(num_shadows=512, num_examples=45_000)
    print(row)
    harness.write("scoring", [row])


if __name__ == "__main__":
    main()
