"""How much shadow models memorise each example, from the records of an earlier run.

The score of an example is the mean log-odds of the shadow models that had it, minus that of the others: how much more
confident a model is because it was trained on the example. Feldman and Zhang (2020) define memorisation so, with the
share of correct predictions in place of log-odds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

RECORDS_FILE = "records.parquet"
REMEDY = "write it by ungan-dist export RUN --records"


def read_memorisation(path: Path, labels: Int64[np.ndarray, " examples"]) -> Float64[np.ndarray, " examples"]:
    """Read the score of each example.

    Args:
        path: a run folder, or its ``records.parquet``.
        labels: class of each example in the data.

    Returns:
        The score of every example, NaN for those outside of the run's pool.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = path / RECORDS_FILE if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"{file} does not exist: {REMEDY}")
    names = ("example", "label", "in_mean", "out_mean")
    try:
        table = pq.read_table(file, columns=list(names))
        example, label, inside, outside = (table[name].to_numpy() for name in names)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(f"{file} holds no records of single examples ({error}): {REMEDY}") from error
    is_known = len(example) and example.min() >= 0 and example.max() < len(labels)
    if not is_known or (labels[example] != label).any():
        raise ValueError(f"{file} has records of other data than these {len(labels):,} examples: name another run")
    scores = np.full(len(labels), np.nan)
    # each method and seed repeats the example with the same values
    scores[example] = inside - outside
    return scores
