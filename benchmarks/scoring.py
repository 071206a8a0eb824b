"""Time scoring at the size of a large audit: 512 shadow models, 45,000 examples, 2 queries.

One rival is a loop over the examples in float32, as public code has. It is timed on a part of the examples, and its
time is scaled to all. The other is NumPy and SciPy on whole arrays, with the members as a mask. The error is relative
to the formula in float64.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from harness import as_row, compare, value_row
from ratio_text import limits_of
from scipy.stats import norm

from ungan_dist import store
from ungan_dist.attack.further import fit_reference_models
from ungan_dist.attack.lira import fit_shadows
from ungan_dist.attack.normality import measure_normality
from ungan_dist.data.membership import draw_membership

BLOCK, NUM_QUERIES = 8, 2
TOLERANCE = 1e-9
TOLERANCE_WHOLE = 1e-2
"""Of a rival with moments in float32."""
NUM_PAIRS_WHOLE = 8
PART = 500
"""Examples that the loop scores."""


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


def score_one_by_one(
    shadows: np.ndarray, membership: np.ndarray, target: np.ndarray, dtype: type[np.floating] = np.float32
) -> np.ndarray:
    """Score as public code does: one example at a time."""

    def score(example: int) -> float:
        members = shadows[membership[:, example], example].astype(dtype, copy=False)
        others = shadows[~membership[:, example], example].astype(dtype, copy=False)
        phi = target[example].astype(dtype)
        inside = norm.logpdf(phi, members.mean(0), members.std(0))
        return float(np.mean(inside - norm.logpdf(phi, others.mean(0), others.std(0))))

    return np.array([score(example) for example in range(len(target))])


def score_whole_arrays(shadows: np.ndarray, membership: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Score all examples at once by NumPy's masked moments and SciPy's Gaussian."""

    def fit(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        where = np.broadcast_to(members[:, :, None], shadows.shape)
        return shadows.mean(0, where=where), shadows.std(0, where=where)

    return (norm.logpdf(target, *fit(membership)) - norm.logpdf(target, *fit(~membership))).mean(1)


def measure(quick: bool) -> Iterator[dict[str, object]]:
    """Time one scoring, then measure the memory of everything that reads the shadow models."""
    libraries_mb = _read_peak_mb()
    num_shadows, num_examples, num_pairs = (32, 1000, 3) if quick else (512, 45_000, 20)
    part = min(PART, num_examples)
    generator = np.random.default_rng(0)
    membership = draw_membership(num_shadows, num_examples, 0)
    subject = f"{num_shadows} shadow models × {num_examples:,} examples × {NUM_QUERIES} queries"
    with tempfile.TemporaryDirectory() as folder:
        shadows = write_shadows(Path(folder), membership, generator)
    target = generator.normal(size=(num_examples, NUM_QUERIES), scale=2.0).astype(np.float32)

    def ours() -> np.ndarray:
        return fit_shadows(shadows, membership, variance="per_example").score(target)

    def loop(dtype: type[np.floating] = np.float32) -> np.ndarray:
        return score_one_by_one(shadows, membership, target[:part], dtype)

    def whole() -> np.ndarray:
        return score_whole_arrays(shadows, membership, target)

    exact = loop(np.float64)
    error = float(np.abs(ours()[:part] - exact).max())
    (of_part,) = compare(ours, {"loop over examples": loop}, num_pairs=num_pairs, least_pairs=num_pairs)
    ratio = of_part.scale_rival(num_examples / part)
    is_met = limits_of(asdict(ratio))[0] >= 20
    yield as_row(subject, ratio, error=error, tolerance=TOLERANCE, target="≥ 20 times as fast", met=is_met)
    measure_normality(shadows, membership)
    fit_reference_models(shadows, membership, offline=False)
    peak_mb = _read_peak_mb()
    yield value_row(
        f"memory: {subject}",
        log_odds_MB=round(shadows.nbytes / 1e6),
        libraries_MB=round(libraries_mb),
        peak_of_the_process_MB=round(peak_mb),
        target="< 1 GB",
        met=peak_mb < 1000,
    )
    # last, because it takes more memory
    if not np.allclose(whole()[:part], exact, atol=TOLERANCE_WHOLE):
        raise RuntimeError("the rival computes other scores")
    num_pairs = min(num_pairs, NUM_PAIRS_WHOLE)
    (ratio,) = compare(ours, {"NumPy and SciPy, whole arrays": whole}, num_pairs=num_pairs, least_pairs=num_pairs)
    yield as_row(subject, ratio, error=error, tolerance=TOLERANCE)


def _read_peak_mb() -> float:
    """Return the peak memory of this process so far, in MB."""
    return int(re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024 / 1e6
