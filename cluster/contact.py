"""Notice that the cluster's head is lost, or has given up this driver, before Ray ends the process without a word."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import ray

CHECK_SECONDS = 5.0
"""Least seconds between two checks."""
HEAD_LOST_SECONDS = 30.0
"""Seconds without an answer of the head after which it is lost; after 60 Ray ends the driver with exit code 1."""


class Contact:
    """The driver's contact with the head."""

    def __init__(
        self, is_answering: Callable[[], bool] | None = None, is_known: Callable[[], bool] | None = None
    ) -> None:
        """Begin with a head that answers.

        Args:
            is_answering: Whether the head accepts connections; defaults to one by TCP.
            is_known: Whether the cluster counts the driver's node as alive; defaults to Ray's answer.
        """
        self._is_answering = is_answering or _is_head_answering
        self._is_known = is_known or _is_node_alive
        self._last_check = self._last_answer = time.monotonic()

    def describe_loss(self, *, is_idle: bool) -> str:
        """Return why the cluster is lost to this driver; empty while it is not.

        Args:
            is_idle: Whether no worker is ready: only then Ray is asked about the driver's node.
        """
        now = time.monotonic()
        if now - self._last_check < CHECK_SECONDS:
            return ""
        self._last_check = now
        if not self._is_answering():
            silent = now - self._last_answer
            return f"the cluster's head has not answered for {silent:.0f} s" if silent >= HEAD_LOST_SECONDS else ""
        self._last_answer = now
        if is_idle and not self._is_known():
            return "the cluster has lost contact with this machine and gave up its work"
        return ""


def _is_head_answering() -> bool:
    host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _is_node_alive() -> bool:
    node = ray.get_runtime_context().get_node_id()
    return any(other["NodeID"] == node and other["Alive"] for other in ray.nodes())
