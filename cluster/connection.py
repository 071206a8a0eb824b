"""Join a running Ray cluster, or start one on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import ray
from ray._private import services

from ungan_dist.errors import ConfigError


@contextlib.contextmanager
def connect_to_ray(address: str) -> Iterator[None]:
    """Keep this process connected to a cluster; an existing connection is used as it is.

    Args:
        address: ``host:port``, or ``auto`` for this machine's cluster, which is started if none runs.

    Raises:
        ConfigError: no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == "auto":
            address = os.environ.get("RAY_ADDRESS", "auto")
        if address == "auto":
            address = find_local_cluster() or "local"
        if address != "local" and "://" not in address:
            _check_listening(address)
        ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray cluster at {address!r}: {error}") from error
    # Ray's own handler would end the run without a partial report
    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def find_local_cluster() -> str | None:
    """Return the address of the cluster last started on this machine, or None if it no longer listens.

    A killed head leaves its address behind, and Ray would retry it for 14 minutes.
    """
    try:
        found = services.canonicalize_bootstrap_address("auto")
        if found is not None:
            _check_listening(found)
    except OSError:
        return None
    return found


def _check_listening(address: str) -> None:
    """Connect once: Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError("the address must be host:port, with the head's port (6379 by default)")
    socket.create_connection((host, int(port)), timeout=10).close()
