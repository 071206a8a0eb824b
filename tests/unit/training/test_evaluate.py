"""Views of examples, and entropies of predictions, against their definitions."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ungan_dist.commands.options import recipe_config
from ungan_dist.config.training import ShadowConfig
from ungan_dist.data.examples import Examples, gather, make_normalisation_table
from ungan_dist.training.evaluate import measure_entropies, move_images, query


@given(st.lists(st.floats(-6, 6), min_size=2, max_size=6), st.data())
def test_entropies_are_those_of_the_definition(logits: list[float], data: st.DataObject) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))
    p = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0).tolist()
    modified = -(1 - p[label]) * log(p[label])
    modified -= sum(p[i] * log(1 - p[i]) for i in range(len(p)) if i != label)
    [[found, entropy]] = measure_entropies(torch.tensor([logits]), torch.tensor([label])).tolist()
    assert found == pytest.approx(modified, rel=1e-5, abs=1e-9)
    assert entropy == pytest.approx(-sum(value * log(value) for value in p), rel=1e-5, abs=1e-9)


def test_a_certain_prediction_keeps_its_digits() -> None:
    logits = torch.tensor([[100.0, 0.0], [0.0, 100.0], [-1000.0, 0.0]])
    found = measure_entropies(logits, torch.tensor([0, 0, 0]))[:, 0]
    # 1 - p = e^-100, so -(1 - p) log p + p log(1 + ...) = 2 e^-200; a wrong one pays 100 twice
    assert found[0].item() == pytest.approx(2 * torch.exp(torch.tensor(-200.0, dtype=torch.float64)).item(), rel=1e-6)
    assert found[1].item() == pytest.approx(200.0)
    assert found[2].item() == pytest.approx(2000.0)


def test_the_18_queries_are_windows_of_padded_images_and_of_their_mirror_images() -> None:
    """As in the public code: pad by one pixel, cut nine windows, once more for the mirrored image."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, size=(5, 6, 7, 2), dtype=np.uint8)
    labels = generator.integers(0, 3, 5)
    mean, std = (0.4, 0.6), (0.2, 0.3)
    data = Examples(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        table=make_normalisation_table(mean, std),
        num_classes=3,
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(84, 3)).eval()
    config = recipe_config(["digits", "--shadows.queries", "18"], command="run")
    found = query(model, data, torch.arange(5), config.shadows.queries)
    assert found.shape == (5, 18)
    expected = []
    for mirrored in (images, images[:, :, ::-1]):
        padded = np.pad(mirrored, ((0, 0), (1, 1), (1, 1), (0, 0)))
        for top in range(3):
            for left in range(3):
                window = padded[:, top : top + 6, left : left + 7] / 255
                inputs = ((window - mean) / std).astype(np.float32).transpose(0, 3, 1, 2)
                with torch.no_grad():
                    p = torch.softmax(model(torch.tensor(inputs)).double(), 1).numpy()[np.arange(5), labels]
                expected.append(np.log(p / (1 - p)))
    # the same views, in whatever order
    np.testing.assert_allclose(np.sort(found, 1), np.sort(np.stack(expected, 1), 1), rtol=1e-4, atol=1e-5)
    shifted = query(model, data, torch.arange(5), ("plain", "shift", "flip"))
    places = [int(np.argmin(np.abs(found - column[:, None]).sum(0))) for column in shifted.T]
    np.testing.assert_allclose(found[:, places], shifted, rtol=1e-6)
    assert len(set(places)) == 3
    # a view of earlier runs keeps its bits
    assert torch.equal(
        gather(data, torch.arange(5), shift=1), move_images(gather(data, torch.arange(5)), 1, 1, data.table[0])
    )


def test_the_18_queries_stand_alone() -> None:
    with pytest.raises(ValueError, match="contain all other views"):
        ShadowConfig(queries=("plain", "18"))
