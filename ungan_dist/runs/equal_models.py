"""Find models of a run with exactly the weights of the original or of Retrain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ungan_dist import store
from ungan_dist.attack.verdicts import REFERENCE
from ungan_dist.config.methods import title_of
from ungan_dist.runs.targets import TargetUnit

_MEANINGS = {
    ("retrain", "original"): "No verdict of this run holds: the reference was trained on the forget set",
    ("unlearned", "original"): "Its figures are those of the original: check that --unlearned names the right file",
    ("", "original"): "It unlearned nothing: check the method and its options",
    ("unlearned", "retrain"): "Its gap is 0 whatever unlearning did: check that --unlearned names the right file",
    ("", "retrain"): "Its gap is 0 by construction, because the method retrains",
}
"""What equal weights mean, by the method, or by an empty text for every other one, and the model that it equals."""


def describe_equal_models(folder: Path, targets: Sequence[TargetUnit]) -> list[str]:
    """State which models equal the original or Retrain bit for bit.

    Args:
        folder: The run folder.
        targets: Its finished targets. The hashes of their weights are in their markers.
    """
    found: dict[tuple[str, str], set[int]] = {}
    hashes = {unit: store.read_marker(folder / unit.marker)["files"].get(unit.weights_file) for unit in targets}
    for unit, weights in hashes.items():
        for other, others_weights in hashes.items():
            is_pair = other.method == "original" or (other.method == REFERENCE and unit.method != "original")
            if is_pair and other.method != unit.method and other.seed == unit.seed and weights == others_weights:
                found.setdefault((unit.method, other.method), set()).add(unit.seed)
    return [
        f"{title_of(method)} has exactly the weights of {'the original' if other == 'original' else title_of(other)} "
        f"(seed {', '.join(map(str, sorted(seeds)))}). {_MEANINGS.get((method, other)) or _MEANINGS['', other]}."
        for (method, other), seeds in found.items()
    ]
