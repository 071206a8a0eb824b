"""The state of the model that UnGAN's small config unlearns."""

from __future__ import annotations

import pytest
from torch import Tensor
from ungan_request import SMALL, flatten_state, make_request

from ungan_dist.methods.ungan.algorithm import ungan


@pytest.fixture(scope="session")
def default() -> Tensor:
    return flatten_state(ungan(make_request(), SMALL))
