"""How much shadow models memorise each example, from the records of an earlier run.

The score of an example is the mean log-odds of the shadow models that had it, minus that of the others: how much more
confident a model is because it was trained on the example. Feldman and Zhang (2020) define memorisation so, with the
share of correct predictions in place of log-odds.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

RECORDS_FILE = "records.parquet"
TOLERANCE = 1e-6
"""Largest difference between two scores of one example that may be rounding."""


def find_records(path: Path) -> Path:
    """Return the file of the records of single examples: a path itself, or that of a run folder.

    Raises:
        ValueError: there is no such file.
    """
    is_file = path.is_file() or path.suffix == Path(RECORDS_FILE).suffix
    file = path if is_file else path / RECORDS_FILE
    if not file.is_file():
        raise ValueError(f"{file} does not exist: {_name_remedy(file)}")
    return file


def _name_remedy(file: Path) -> str:
    return f"write it by ungan-dist export {shlex.quote(str(file.parent))} --records"


def read_memorisation(path: Path, labels: Int64[np.ndarray, " examples"]) -> Float64[np.ndarray, " examples"]:
    """Read the score of each example.

    Args:
        path: a run folder, or its ``records.parquet``.
        labels: class of each example in the data.

    Returns:
        The score of every example, NaN for those outside of the run's pool.

    Raises:
        ValueError: there is no such file, it holds something else, or it contradicts itself.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, remedy = find_records(path), _name_remedy(find_records(path))
    names = ("example", "label", "in_mean", "out_mean")
    try:
        table = pq.read_table(file, columns=list(names))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"{file} holds no records of single examples ({error}): {remedy}") from error
    for name in names:
        kind, is_whole = table[name].type, name in ("example", "label")
        if table[name].null_count or not (pa.types.is_integer(kind) if is_whole else pa.types.is_floating(kind)):
            wanted = "whole numbers" if is_whole else "fractions"
            holds = f"{table[name].null_count} empty cells" if table[name].null_count else f"values of type {kind}"
            raise ValueError(f"{file} must have {wanted} in its column {name}, and has {holds}: {remedy}")
    example, label, inside, outside = (table[name].to_numpy() for name in names)
    is_known = len(example) and example.min() >= 0 and example.max() < len(labels)
    if not is_known or (labels[example] != label).any():
        raise ValueError(f"{file} has records of other data than these {len(labels):,} examples: name another run")
    scores = np.full(len(labels), np.nan)
    found = np.asarray(inside, np.float64) - outside
    if not np.isfinite(found).all():
        odd = example[~np.isfinite(found)][0]
        raise ValueError(f"{file} has log-odds of example {odd} that are not finite: {remedy}")
    # each method and seed repeats the example with the same values
    scores[example] = found
    if len(odd := example[np.abs(scores[example] - found) > TOLERANCE]):
        raise ValueError(f"{file} has two scores of example {odd[0]}: {remedy}")
    return scores
