"""The way to a cluster's Jobs API: with a token, and not across a network without one."""

from __future__ import annotations

import ipaddress
import os
import sys
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.errors import ConfigError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def is_loopback(address: str) -> bool:
    """Whether an address stays on this machine."""
    host = urllib.parse.urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def has_token() -> bool:
    """Whether Ray would find a token: in the environment, in the file that it names, or in the default file."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return False
    if os.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.is_file() and path.stat().st_size > 0


def check_access(address: str, *, without_token: bool) -> None:
    """Refuses an address that is none, and one across a network for which there is no token.

    Args:
        address: of the Jobs API, ``http://host:8265``.
        without_token: the user has said that none is needed.

    Raises:
        ConfigError: with what to do.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--address must be that of the Jobs API, as http://127.0.0.1:8265, got {address!r}")
    if parts.username or parts.password:
        raise ConfigError("--address must not hold a user or password: jobs, logs and shells repeat it")
    if is_loopback(address):
        return
    if not has_token() and not without_token:
        raise ConfigError(
            f"there is no token for {parts.hostname}: whoever reaches an open Jobs API runs code on the cluster, so a "
            f"cluster across a network needs one. Get it (ray get-auth-token on the head, or the cluster's Secret) "
            f"into ~/.ray/auth_token or RAY_AUTH_TOKEN_PATH; or say --without-token for a cluster guarded otherwise"
        )
    if parts.scheme == "http":
        print(
            f"ungan-dist: http to {parts.hostname}: a token opens the cluster, it does not encrypt; whoever listens "
            f"reads token, code and logs. Better https, or a tunnel to 127.0.0.1",
            file=sys.stderr,
        )


def connect(address: str, *, without_token: bool = False) -> JobSubmissionClient:
    """A client of a cluster's Jobs API, which the cluster has accepted.

    Raises:
        ConfigError: no cluster answers, it wants another token, or ``check_access`` refuses.
    """
    check_access(address, without_token=without_token)
    if has_token():
        os.environ["RAY_AUTH_MODE"] = "token"
    # Ray would follow these instead of the address that was given
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)

    # read by Ray when it is imported
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient
    from requests.exceptions import RequestException

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        hint = "a wrong token" if has_token() else "no token"
        raise ConfigError(
            f"the cluster at {address} was offered {hint}: put its own into ~/.ray/auth_token (ray get-auth-token on "
            f"the head prints it), RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN"
        ) from error
    except (ConnectionError, RequestException, RuntimeError) as error:
        raise ConfigError(
            f"no Jobs API answers at {address}: {str(error).splitlines()[0]}. Start a head on this machine "
            f"(RAY_AUTH_MODE=token ray start --head; stop it with ray stop), or name that of a cluster by --address"
        ) from error
