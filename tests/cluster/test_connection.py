"""Finding the cluster at hand: what a killed head left behind is none."""

from __future__ import annotations

import socket

import pytest
from ray._private import services

from ungan_dist.cluster.connection import at_hand


def test_a_cluster_that_listens_is_at_hand_and_one_that_was_killed_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str] = []  # where Ray keeps the address of the cluster last started

    def address_noted(address: str) -> str:
        if not noted:
            raise ConnectionError(f"nothing noted for {address}")
        return noted[-1]

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", address_noted)
    assert at_hand() is None
    with socket.create_server(("127.0.0.1", 0)) as head:
        noted.append(f"127.0.0.1:{head.getsockname()[1]}")
        assert at_hand() == noted[-1]
    assert at_hand() is None
