"""Read the bundled digits; compute channel moments and content hashes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from picture_files import raises_with, random_pictures, read_source
from sklearn.datasets import load_digits

from ungan_dist.config.data import SourceConfig
from ungan_dist.data.sources.source import Source, _channel_moments, load_source


def test_digits_equal_scikit_learns_within_half_a_level():
    source, bunch = read_source("digits"), load_digits()
    assert source.images.shape == (1797, 8, 8, 1)
    assert source.images.dtype == np.uint8
    np.testing.assert_allclose(source.images[..., 0], bunch.images * 255 / 16, rtol=0, atol=0.5)
    np.testing.assert_array_equal(source.labels, bunch.target)
    assert (source.num_classes, source.title, source.bundled) == (10, "Digits (scikit-learn)", True)
    assert source.test is None
    assert source.mean == pytest.approx((source.images / 255).mean((0, 1, 2)), abs=5e-5)
    assert source.std == pytest.approx((source.images / 255).std((0, 1, 2)), abs=5e-5)


def test_digits_as_a_table_equal_scikit_learns():
    source, bunch = load_source(SourceConfig(kind="digits_table")), load_digits()
    np.testing.assert_array_equal(source.images, bunch.data)
    assert source.images.dtype == np.float32
    np.testing.assert_array_equal(source.labels, bunch.target)


def test_digits_are_read_without_importing_scikit_learn():
    code = """
import sys
from ungan_dist.config.data import SourceConfig
from ungan_dist.data.sources.source import load_source
load_source(SourceConfig(kind="digits"))
print([name for name in ("sklearn", "pandas", "scipy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_digits_take_no_path(tmp_path):
    with raises_with("source.path", str(tmp_path), "leave it out"):
        read_source("digits", tmp_path)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_channel_moments_equal_numpys_in_float64(images):
    mean, std = _channel_moments(images)
    expected = (images / 255).std((0, 1, 2))
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=0, atol=1e-14)
    constant = np.ptp(images, axis=(0, 1, 2)) == 0
    np.testing.assert_allclose(np.asarray(std)[~constant], expected[~constant], rtol=1e-12)
    assert _channel_moments(images[::-1]) == (mean, std)


def test_a_constant_channel_is_not_divided_by_zero():
    assert _channel_moments(np.full((2000, 3, 3, 1), 100, np.uint8))[1] == (1.0,)


def make_source(**changes) -> Source:
    facts = {
        "images": random_pictures(4, (2, 2, 3)),
        "labels": np.array([0, 1, 0, 1]),
        "num_classes": 2,
        "class_names": ("a", "b"),
        "title": "toy",
        "bundled": False,
        "test": np.array([3]),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
    }
    return Source(**(facts | changes))


def test_content_hash_depends_only_on_inputs_of_the_result():
    changed = random_pictures(4, (2, 2, 3))
    changed[3, 1, 1, 2] ^= 1
    different = [
        make_source(),
        make_source(images=changed),
        make_source(images=random_pictures(4, (2, 2, 3)).reshape(4, 1, 4, 3)),
        make_source(labels=np.array([0, 1, 1, 1])),
        make_source(num_classes=3),
        make_source(test=None),
        make_source(test=np.array([2])),
        make_source(mean=(0.5, 0.5, 0.25)),
        make_source(std=(0.2, 0.2, 0.25)),
    ]
    assert len({source.content_hash for source in different}) == len(different)
    assert make_source(title="other", class_names=("c", "d"), bundled=True).content_hash == make_source().content_hash


def test_content_hash_does_not_depend_on_memory_layout():
    turned = np.asfortranarray(random_pictures(4, (2, 2, 3)))
    assert make_source(images=turned).content_hash == make_source().content_hash
