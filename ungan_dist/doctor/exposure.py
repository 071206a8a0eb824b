"""Who could hand code to a Ray that runs here: its dashboard and Jobs API, asked as a stranger would ask."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ungan_dist.doctor.finding import Finding, failure, ok, warning

DASHBOARD_PORT = 8265
PATIENCE_S = 5.0
REMEDY = (
    "start Ray with RAY_AUTH_MODE=token (ray get-auth-token --generate makes one) and --dashboard-host=127.0.0.1; "
    "see SECURITY.md"
)


def check_exposure(addresses: list[str] | None = None) -> Iterator[Finding]:
    """Asks each address for what only a token should open.

    Args:
        addresses: ``host:port`` of dashboards; none: the usual port on every address of this machine.
    """
    yield from _token_file()
    if addresses is None:
        addresses = [f"{_bracketed(host)}:{DASHBOARD_PORT}" for host in own_addresses()]
    answers = {address: _answer(f"http://{address}/api/jobs/") for address in addresses}
    opened = [address for address, code in answers.items() if code is not None and code < 400]
    for address in opened:
        said = f"the Jobs API at {address} answers without a token: whoever reaches it runs code as its user"
        if _is_loopback(address):
            yield warning("exposure", f"{said}; here everybody with a login", REMEDY)
        else:
            yield failure("exposure", said, REMEDY)
    if not opened:
        closed = [address for address, code in answers.items() if code is not None]
        yield ok("exposure", f"closed: {', '.join(closed)}" if closed else "no dashboard answers on this machine")


def own_addresses() -> list[str]:
    """Loopback, and the addresses by which others may reach this machine."""
    found = {"127.0.0.1"}
    # sends nothing: it asks the routing table which address a packet would leave from
    for family, far in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as one:
                one.connect((far, 9))
                found.add(one.getsockname()[0])
        except OSError:
            continue
    with contextlib.suppress(OSError):
        found |= {str(entry[4][0]) for entry in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted(address for address in found if "%" not in address)


def _answer(url: str) -> int | None:
    """The status; none where nothing answers. Proxies are left out of it."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=PATIENCE_S) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, ValueError):
        return None


def _token_file() -> Iterator[Finding]:
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield failure("token", f"{path} can be read by others, and it opens the cluster", f"chmod 600 {path}")


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
