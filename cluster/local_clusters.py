"""Find this user's Ray clusters on this machine, and query whether a head accepts a token."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ungan_dist.cluster.tls import TLSMismatch, explain_handshake, find_credentials
from ungan_dist.errors import ConfigError

if TYPE_CHECKING:
    import grpc

PRIVATE_VARIABLE = "UNGAN_DIST_PRIVATE_CLUSTER"
"""Environment variable of a cluster that ends with the command which started it, so that no other command joins it."""
TIMEOUT_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """A Ray cluster with a node on this machine."""

    address: str
    """``host:port`` of its head."""
    uid: int
    """User id of the node's process."""
    is_private: bool
    """Whether it belongs to a running command."""


def list_local_clusters() -> list[LocalCluster]:
    """List the clusters of which a node runs on this machine, as far as this user may see its processes."""
    found: dict[tuple[str, int], LocalCluster] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if Path(words[0]).name != "raylet":
                continue
            uid, environment = process.stat().st_uid, b""
            if uid == os.geteuid():
                environment = (process / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        address = next((word.partition("=")[2] for word in words if word.startswith("--gcs-address=")), "")
        is_private = f"{PRIVATE_VARIABLE}=".encode() in environment
        found[address, uid] = LocalCluster(address=address, uid=uid, is_private=is_private)
    return sorted(found.values(), key=lambda cluster: cluster.address)


def find_own_cluster() -> str | None:
    """Return the address of this user's cluster on this machine, or None if there is none.

    Clusters of other users are never contacted: a token that is sent to one could be used by its owner.

    Raises:
        ConfigError: this user has several clusters here.
    """
    clusters = list_local_clusters()
    own = [cluster for cluster in clusters if cluster.uid == os.geteuid() and not cluster.is_private]
    addresses = [cluster.address for cluster in own if is_listening(cluster.address)]
    for cluster in clusters:
        if cluster.uid != os.geteuid():
            print(
                f"ungan-dist: the Ray cluster at {cluster.address} belongs to {user_name(cluster.uid)} and is not "
                f"joined; to use it, name it with --cluster {cluster.address}",
                file=sys.stderr,
            )
    if len(addresses) > 1:
        raise ConfigError(
            f"you have {len(addresses)} Ray clusters on this machine ({', '.join(addresses)}): choose one with "
            f"--cluster HOST:PORT or RAY_ADDRESS"
        )
    return addresses[0] if addresses else None


def user_name(uid: int) -> str:
    """Return a user's name, or the id of a user without one."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def is_listening(address: str) -> bool:
    """Return whether a Ray head answers; the nodes of a killed head live on for a minute."""
    try:
        accepts_token(address, None)
    except TLSMismatch:
        return True
    except ConfigError:
        return False
    return True


def accepts_token(address: str, token: str | None) -> bool:
    """Query a Ray head once, because Ray itself would retry for minutes.

    Args:
        address: ``host:port`` of the head.
        token: the value, or None to query without one.

    Returns:
        False if the head answers that the token is missing or wrong.

    Raises:
        TLSMismatch: a head answers, and only one of both sides uses TLS, or one refuses the other's certificate.
        ConfigError: the address is malformed, or no Ray head answers there.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ConfigError(
            f"no Ray cluster at {address!r}: the address must be host:port, with the head's port (6379 by default)"
        )
    try:
        # an empty message queries no node
        return query_head(address, "CheckAlive", token) is not None
    except ConfigError as error:
        if reason := explain_handshake(address):
            raise TLSMismatch(reason) from error
        raise


def query_head(
    address: str, name: str, token: str | None, *, message: bytes = b"", timeout_s: float = TIMEOUT_SECONDS
) -> bytes | None:
    """Call a method of the head's node service once, without any file of Ray's.

    Returns:
        The answer's bytes, or None if the token is missing or wrong.

    Raises:
        ConfigError: no Ray head answers there.
    """
    import grpc

    credentials = find_credentials()
    # as in Ray: never through the environment's proxies
    options = [("grpc.enable_http_proxy", 0)]
    channel = (
        grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)
    )
    with channel:
        query = channel.unary_unary(f"/ray.rpc.NodeInfoGcsService/{name}")
        try:
            return query(
                message, timeout=timeout_s, metadata=(("authorization", f"Bearer {token}"),) if token else None
            )
        except grpc.RpcError as error:
            call = cast("grpc.Call", error)
            if call.code() is grpc.StatusCode.UNAUTHENTICATED:
                return None
            reason = str(call.details()).rpartition(": ")[2]
            raise ConfigError(f"no Ray cluster at {address!r}: {reason}") from error
