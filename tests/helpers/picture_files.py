"""Write random pictures to files, and read them as a source."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ungan_dist.config.data import SourceConfig
from ungan_dist.data.sources.source import Source, load_source


def encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def random_pictures(count: int, shape: tuple[int, ...] = (32, 32, 3), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_parquet(
    file: Path, contents: list, labels: list, *, image: str = "img", label: str = "label", names=None
) -> Path:
    rows = [{"bytes": content, "path": None} for content in contents]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(rows, kind), label: pa.array(labels)})
    if names:
        note = {"info": {"features": {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    pq.write_table(table, file)
    return file


def read_source(kind: str, path: Path | None = None) -> Source:
    return load_source(SourceConfig(kind=kind, path=None if path is None else str(path)))


def raises_with(*words: str):
    """Expect a ValueError whose message matches every word."""
    return pytest.raises(ValueError, match="".join(f"(?=.*{word})" for word in words))
