"""Compare the manifest of prepared data with the source it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ungan_dist.data.sources.source import Source


def source_facts(source: Source) -> dict[str, Any]:
    """Return what a manifest records of a source besides its pixels and labels."""
    return {"num_classes": source.num_classes, "mean": list(source.mean), "std": list(source.std)}


def agrees(facts: dict[str, Any], source: Source) -> bool:
    """Return whether the facts of a manifest are those of a source; a title may differ for the same data."""
    return facts | source_facts(source) == facts
