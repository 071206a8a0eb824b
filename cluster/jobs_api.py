"""Connect to a cluster's Jobs API, and never across a network without a token."""

from __future__ import annotations

import ipaddress
import os
import sys
import urllib.parse
from typing import TYPE_CHECKING

from ungan_dist.cluster.authentication import (
    MODE,
    Token,
    explain_missing_token,
    explain_refusal,
    find_token,
    reload_authentication,
    token_file,
)
from ungan_dist.errors import ConfigError

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient


def is_loopback(address: str) -> bool:
    """Return whether a URL's host is this machine."""
    host = urllib.parse.urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_access(address: str, *, without_token: bool) -> Token | None:
    """Refuse a malformed address, and one across a network if there is no token.

    Returns:
        This user's token, if there is one.

    Raises:
        ConfigError: with the reason.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--address must be the URL of a Jobs API, such as http://127.0.0.1:8265, got {address!r}")
    if parts.username or parts.password:
        raise ConfigError("--address must not contain a user or a password, because jobs, logs and shells repeat it")
    token = find_token()
    if is_loopback(address):
        return token
    if token is None and not without_token:
        raise ConfigError(
            f"{parts.hostname} is not contacted without a token, and {explain_missing_token()}. Anyone who reaches an "
            f"open Jobs API can run code on the cluster. Copy the cluster's token (ray get-auth-token on the head, or "
            f"its Secret) to {token_file()}. Use --without-token only if the cluster is protected in another way"
        )
    if parts.scheme == "http":
        print(
            f"ungan-dist: the connection to {parts.hostname} is not encrypted: the token, code and logs can be read "
            f"on the network. Use https, or a tunnel to 127.0.0.1",
            file=sys.stderr,
        )
    return token


def connect_jobs_api(address: str, *, without_token: bool = False) -> JobSubmissionClient:
    """Connect to a cluster's Jobs API.

    Args:
        address: its URL, ``http://host:8265``.
        without_token: allow a remote cluster without a token.

    Raises:
        ConfigError: no cluster answers, it rejects the token, or ``check_access`` refuses the address.
    """
    token = check_access(address, without_token=without_token)
    if token:
        # for the whole process, because the client reads the token at every request
        os.environ[MODE] = "token"
        reload_authentication()
    # Ray prefers these to the address that it is given
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)

    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient
    from requests.exceptions import RequestException, SSLError

    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise ConfigError(explain_refusal(f"the cluster at {address}", token)) from error
    except (ConnectionError, RequestException, RuntimeError) as error:
        if isinstance(error.__context__, SSLError):
            raise ConfigError(
                f"{address} could not be verified ({error.__context__}). For a certificate of a private authority, "
                f"name its file in REQUESTS_CA_BUNDLE and SSL_CERT_FILE"
            ) from error
        raise ConfigError(
            f"no Jobs API at {address}: {str(error).splitlines()[0].rstrip('.')}. Start a head on this machine "
            f"(RAY_AUTH_MODE=token ray start --head), or name another cluster with --address"
        ) from error
