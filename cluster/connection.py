"""Join a running Ray cluster, or start one on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator, Mapping
from typing import Any

from ungan_dist.cluster.authentication import MODE, explain_refusal, find_token, ray_authentication
from ungan_dist.cluster.local_clusters import PRIVATE_VARIABLE, accepts_token, find_own_cluster
from ungan_dist.errors import ConfigError


@contextlib.contextmanager
def connect_to_ray(address: str, *, runtime_env: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Keep this process connected to a cluster; an existing connection is used as it is.

    Args:
        address: ``host:port``, or ``auto``: the cluster that RAY_ADDRESS names, or this user's cluster on this machine,
            or a new one that ends with the connection.
        runtime_env: Ray's, for tasks and actors of this process.

    Yields:
        Which cluster it is, and the reason of this choice.

    Raises:
        ConfigError: no cluster at the address, or it refuses this user's token, or this process has lost the head of
            an earlier one.
    """
    import ray

    from ungan_dist.cluster.contact import exit_if_head_is_lost, is_head_lost

    if is_head_lost():
        raise ConfigError("this process has lost the head of its Ray cluster: run again in a new process")
    if ray.is_initialized():
        yield f"{ray.get_runtime_context().gcs_address}, already connected"
        return
    address, reason = choose_address(address)
    handler = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if runtime_env is not None:
        options["runtime_env"] = dict(runtime_env)
    with _private_token() if address == "local" else _joined_token(address):
        try:
            ray.init(address=address, **options)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(f"no Ray cluster at {address!r}: {error}") from error
        # Ray's own handler would end the run without a partial report
        signal.signal(signal.SIGTERM, handler)
        with exit_if_head_is_lost():
            yield f"{ray.get_runtime_context().gcs_address}, {reason}"


def check_address(address: str) -> None:
    """Query a cluster's head once.

    Raises:
        ConfigError: no Ray head at the address, or it refuses this user's token.
    """
    _joined_token(address)


def choose_address(address: str) -> tuple[str, str]:
    """Resolve ``auto`` to an address, or to ``local`` for a new cluster, and give the reason of the choice."""
    if address != "auto":
        return address, "as requested"
    named = os.environ.get("RAY_ADDRESS", "auto")
    if named == "local":
        return named, "started for this command, as RAY_ADDRESS requests"
    if named != "auto":
        return named, "named by RAY_ADDRESS"
    if own := find_own_cluster():
        return own, "your cluster on this machine"
    return "local", "started for this command"


def _private_token() -> contextlib.AbstractContextManager[None]:
    """Give a new cluster a token that exists only in the memory of its processes, and mark it as not to be joined."""
    disabled = os.environ.get(MODE, "").lower() == "disabled"
    return ray_authentication(None if disabled else secrets.token_hex(32), **{PRIVATE_VARIABLE: "1"})


def _joined_token(address: str) -> contextlib.AbstractContextManager[None]:
    """Choose token mode as the cluster has it.

    Raises:
        ConfigError: no Ray head at the address, or it refuses this user's token.
    """
    token = find_token()
    if accepts_token(address, None):
        return ray_authentication(None)
    if token is None or not accepts_token(address, token.value):
        raise ConfigError(explain_refusal(f"the Ray cluster at {address}", token))
    return ray_authentication(token.value)
