"""The committed mutants still fit the source; ``make mutants`` runs them."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]
MUTANTS = [
    mutant
    for path in sorted((Path(__file__).parent / "mutants").glob("*.toml"))
    for mutant in tomllib.loads(path.read_text())["mutant"]
]


def test_every_kernel_has_three_mutants():
    sources = [path.read_text() for path in (ROOT / "kernels").rglob("fused*.py")]
    kernels = {name for source in sources for name in re.findall(r"^def (\w+_kernel)\(", source, flags=re.M)}
    assert Counter(mutant["kernel"] for mutant in MUTANTS) == dict.fromkeys(kernels, 3)


def test_each_mutant_replaces_one_place_and_names_a_test():
    for mutant in MUTANTS:
        assert (ROOT / mutant["file"]).read_text().count(mutant["before"]) == 1, mutant["fault"]
        file, _, test = mutant["test"].partition("::")
        assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(), mutant["fault"]
