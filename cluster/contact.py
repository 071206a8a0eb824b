"""Notice that the cluster's head is lost, or has given up this driver, before Ray ends the process.

Ray's calls block while the head is gone. After 60 s Ray ends the process with exit code 1 and no report, and it does so
at once if the head starts again during a call.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray

from ungan_dist.cluster.authentication import find_token
from ungan_dist.cluster.local_clusters import query_head
from ungan_dist.errors import ConfigError

CHECK_SECONDS = 1.0
"""Least seconds between two checks of the head."""
LOST_SECONDS = 30.0
"""Seconds without an answer of the head after which a fleet stops."""
EXIT_SECONDS = 50.0
"""Seconds without an answer after which the process ends, because a call to Ray blocks it."""
KNOWN_SECONDS = 5.0
"""Least seconds between two questions about the driver's node."""


class Contact:
    """The driver's contact with the head."""

    def __init__(
        self, identify: Callable[[], bytes | None] | None = None, is_known: Callable[[], bool] | None = None
    ) -> None:
        """Begin with a head that answers.

        Args:
            identify: Returns the cluster's id, or None while its head does not answer; defaults to a query of the head.
            is_known: Whether the cluster counts the driver's node as alive; defaults to Ray's answer.
        """
        self._identify = identify or _make_query()
        self._is_known = is_known or _is_own_node_alive
        self._cluster = self._identify()
        self._last_check = self._last_question = time.monotonic()
        self._silent_since: float | None = None
        """When the head first did not answer, since its last answer. Time in which nobody asked is no silence."""
        self.is_restarted = False
        """Whether another cluster answers, since the head was started again: any call to Ray then ends the process."""

    def wait_for_answer(self, *, at_once: bool = False) -> str:
        """Wait while the head does not answer, because calls to Ray would block; return why it is lost, or nothing.

        Args:
            at_once: Ask the head now, however short the last answer is ago.
        """
        silence = self.measure_silence(at_once=at_once)
        while 0 < silence < LOST_SECONDS:
            time.sleep(CHECK_SECONDS)
            silence = self.measure_silence()
        if silence:
            return f"the cluster's head has not answered for {silence:.0f} s"
        return "the cluster's head was started again" if self.is_restarted else ""

    def measure_silence(self, *, at_once: bool = False) -> float:
        """Return the seconds since the head first did not answer; 0 if it answers."""
        now = time.monotonic()
        if at_once or now - self._last_check >= CHECK_SECONDS:
            self._last_check = now
            if cluster := self._identify():
                self._silent_since = None
                self._cluster = self._cluster or cluster
                self.is_restarted = cluster != self._cluster
            elif self._silent_since is None:
                self._silent_since = now
        return 0.0 if self._silent_since is None else max(now - self._silent_since, CHECK_SECONDS)

    def is_lost(self) -> bool:
        """Ask the head now: whether it does not answer, or was started again."""
        return bool(self.measure_silence(at_once=True)) or self.is_restarted

    def is_given_up(self) -> bool:
        """Whether the cluster counts the driver's node as dead; it then starts no worker for it again."""
        now = time.monotonic()
        if now - self._last_question < KNOWN_SECONDS:
            return False
        self._last_question = now
        return not self._is_known()


_head_lost = threading.Event()
"""Set when a connection of this process ended without its head."""


@contextlib.contextmanager
def exit_if_head_is_lost() -> Iterator[None]:
    """End this process with exit code 3 if the head does not answer for long, within the context.

    At the end of the context, disconnect from a head that answers. Without the head, or with another one, Ray may abort
    the process while it disconnects; the connection then stays until :func:`end_without_ray`.
    """
    contact, left = Contact(), threading.Event()

    def watch() -> None:
        while not left.wait(CHECK_SECONDS):
            if contact.measure_silence() >= EXIT_SECONDS:
                print(
                    f"error: the cluster's head has not answered for {EXIT_SECONDS:.0f} s, and Ray waits. Run the "
                    "same command again once the cluster answers.",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(3)

    threading.Thread(target=watch, name="contact with the head", daemon=True).start()
    try:
        yield
    finally:
        left.set()
        if contact.is_lost():
            _head_lost.set()
        else:
            ray.shutdown()


def is_head_lost() -> bool:
    """Whether this process has lost the head of a cluster, so that it can use Ray no more."""
    return _head_lost.is_set()


def end_without_ray(code: int) -> None:
    """End this process at once if it has lost a head, because Ray may abort it when Python ends.

    Args:
        code: Exit code of the process.
    """
    if is_head_lost():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed
                stream.flush()
        os._exit(code)


def _make_query(name: str = "GetClusterId", message: bytes = b"") -> Callable[[], bytes | None]:
    """Make a query of the head, which returns nothing where it does not answer or refuses the token."""
    address, token = ray.get_runtime_context().gcs_address, find_token()

    def query() -> bytes | None:
        try:
            return query_head(address, name, token.value if token else None, message=message, timeout_s=2.0)
        except ConfigError:
            return None

    return query


def is_node_alive(node: str) -> bool:
    """Whether the cluster counts a node as alive, or does not answer. Ray's own list of nodes would wait for it."""
    from ray.core.generated import gcs_service_pb2

    messages: Any = gcs_service_pb2  # its classes are made at the import
    message = messages.CheckAliveRequest(node_ids=[bytes.fromhex(node)]).SerializeToString()
    answer = _make_query("CheckAlive", message)()
    return answer is None or any(messages.CheckAliveReply.FromString(answer).raylet_alive)


def _is_own_node_alive() -> bool:
    return is_node_alive(ray.get_runtime_context().get_node_id())
