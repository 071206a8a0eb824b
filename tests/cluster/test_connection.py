"""Find the local cluster; a killed head leaves its address behind."""

from __future__ import annotations

import socket

import pytest
from ray._private import services

from ungan_dist.cluster.connection import find_local_cluster


def x(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[str] = []  # Ray's record of the cluster last started

    def read_address(address: str) -> str:
        if not recorded:
            raise ConnectionError(f"no record for {address}")
        return recorded[-1]

    monkeypatch.setattr(services, "canonicalize_bootstrap_address", read_address)
    assert find_local_cluster() is None
    with socket.create_server(("127.0.0.1", 0)) as head:
        recorded.append(f"127.0.0.1:{head.getsockname()[1]}")
        assert find_local_cluster() == recorded[-1]
    assert find_local_cluster() is None
