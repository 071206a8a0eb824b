"""Finding the cluster at hand: what a killed head left behind is none."""

from __future__ import annotations

import socket

import pytest
from ray._private import services

from ungan_dist.cluster.connection import at_hand


def test_a_cluster_that_listens_is_at_hand_and_one_that_was_killed_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[str | None] = [None]  # where Ray keeps the address of the cluster last started
    monkeypatch.setattr(services, "find_gcs_addresses", set)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda temp_dir: noted[-1])
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert at_hand() is None
    with socket.create_server(("127.0.0.1", 0)) as head:
        noted.append(f"127.0.0.1:{head.getsockname()[1]}")
        assert at_hand() == noted[-1]
    assert at_hand() is None
