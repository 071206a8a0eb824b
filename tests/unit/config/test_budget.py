"""What --until decided may be combined with."""

from __future__ import annotations

from pathlib import Path

import pytest
from in_process import assert_refused, run_command
from small_audit import SMALL_OPTIONS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--num-seeds", "2", "--until", "decided"], ["at least 3", "got num_seeds 2"]),
        (["--num-seeds", "3", "--budget.max-seeds", "9"], ["give --until decided"]),
        (["--num-seeds", "3", "--until", "decided", "--budget.max-seeds", "2"], ["max_seeds must be at least 3"]),
        (["--num-seeds", "3", "--until", "decided", "--budget.max-shadows", "2"], ["max_shadows must be at least 4"]),
        (["--num-seeds", "3", "--until", "decided", "--budget.max-shadows", "7"], ["must be even"]),
        (["--num-unlearnings", "0"], ["num_unlearnings must be finite and greater than 0"]),
    ],
)
def test_a_budget_that_cannot_hold_is_refused(options: list[str], words: list[str], tmp_path: Path) -> None:
    assert_refused(run_command("run", "digits", "--output", tmp_path, *SMALL_OPTIONS, *options), *words)
    assert not any(tmp_path.iterdir())
