"""What the files of a run reveal about the people in its forget set."""

from __future__ import annotations

import re

_MEANINGS = (
    (r".*/images\.npy|.*\.beton", "the images"),
    (r".*/labels\.npy", "the labels"),
    (r".*/original\.safetensors|.*/checkpoints/.*", "a model that was trained on the forget set"),
    (r"shadows/.*\.safetensors", "shadow models that were trained on halves of the data, if they were kept"),
    (r".*/log_odds/.*|shadows/.*\.npy|.*/unlearned_shadows/.*", "log-odds of single examples"),
    (r".*/membership\.npy", "which example was in which shadow model"),
    (r".*/records\.parquet", "log-odds, scores and p values of every example"),
    (
        r".*\.safetensors",
        "an unlearned model, which may hold what it did not forget; a purge keeps it without --models",
    ),
)


def describe_forget_file(name: str) -> str:
    """Say what a file, or the files of a pattern, reveal; empty if nothing is known of them.

    Examples:
        >>> describe_forget_file("run/log_odds/*/*.npy")
        'log-odds of single examples'
    """
    return next((meaning for pattern, meaning in _MEANINGS if re.fullmatch(pattern, name)), "")
