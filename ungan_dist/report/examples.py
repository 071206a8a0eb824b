"""Images of the forget set for the report: those with the highest scores in the original."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ungan_dist.attack.evidence import Evidence, ForgetExample, RecordPValues
from ungan_dist.config.methods import title_of
from ungan_dist.data.sources.source import Source
from ungan_dist.data.split import Split

NUM_SHOWN = 12


def select_forget_examples(source: Source, split: Split, evidence: list[Evidence]) -> list[ForgetExample]:
    """Select the first seed's forget examples with the highest scores in the original, with every row's score."""
    seed = min(item.seed for item in evidence if item.method == "original")
    items = {item.method: item for item in evidence if item.seed == seed and not item.unlearning}
    forget, scores = items["original"].forget, items["original"].scores
    surest = forget[np.argsort(-scores[forget], kind="stable")[:NUM_SHOWN]]
    return [
        ForgetExample(
            id=int(split.pool[position]),
            label=source.class_names[source.labels[split.pool[position]]],
            png=_png(source.images[split.pool[position]]),
            scores={title_of(name): float(item.scores[position]) for name, item in items.items()},
            p_values={
                title_of(name): _p_value(item.p_values, int(np.flatnonzero(forget == position)[0]))
                for name, item in items.items()
                if item.p_values is not None
            },
        )
        for position in surest
    ]


def _p_value(found: RecordPValues, index: int) -> tuple[float, float, float]:
    p, low, high = (float(values[index]) for values in (found.p, found.low, found.high))
    return p, low, high


def _png(pixels: UInt8[np.ndarray, "height width channels"]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
