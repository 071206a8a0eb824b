"""Find the files of Ray's TLS, and explain why a handshake with a cluster fails."""

from __future__ import annotations

import contextlib
import datetime
import os
import shlex
import socket
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.errors import ConfigError

if TYPE_CHECKING:
    import grpc

SWITCH, CERTIFICATE, KEY, AUTHORITY = "RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"
"""Variables that Ray reads: whether nodes use TLS, this host's certificate and key, and the authority's certificate."""
TIMEOUT_SECONDS = 5.0
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's reasons if the other side speaks another protocol."""
_OTHER_NAMES = (62, 64)
"""OpenSSL's codes for a certificate of another name or address."""
_EXPIRED = 10
_MAKE = "`ungan-dist tls` on the machine that keeps the authority"


class TLSMismatch(ConfigError):
    """A cluster answers, but TLS fails."""


@dataclass(frozen=True, kw_only=True)
class TLSFiles:
    """The files that Ray's variables name."""

    certificate: Path
    key: Path
    authority: Path


def find_files() -> TLSFiles | None:
    """Return the files that Ray would use, or None without RAY_USE_TLS.

    Raises:
        ConfigError: A variable is missing, a file cannot be read, or other users can read the key.
    """
    if os.environ.get(SWITCH, "0").lower() not in ("1", "true"):
        return None
    names = (CERTIFICATE, KEY, AUTHORITY)
    try:
        certificate, key, authority = (Path(os.environ[name]) for name in names)
        files = TLSFiles(certificate=certificate, key=key, authority=authority)
        _make_context(files)
    except (KeyError, OSError) as error:  # errors of OpenSSL are errors of the system
        raise ConfigError(
            f"{SWITCH} is set, so {', '.join(names)} must name this host's certificate, its key and the authority's "
            f"certificate: {error}"
        ) from error
    refuse_open_key(key, "passes as this host")
    return files


def refuse_open_key(key: Path, power: str) -> None:
    """Refuse a private key that other users can read; an absent one passes.

    Args:
        key: The file.
        power: What whoever has it does, for the message.

    Raises:
        ConfigError: Its group or others have a right to it.
    """
    mode = stat.S_IMODE(key.stat().st_mode) if key.exists() else 0
    if mode & 0o077:
        raise ConfigError(
            f"the key {key} has mode {mode:04o}, but only its owner may read it: whoever has it {power}. Run: chmod "
            f"600 {shlex.quote(str(key))}"
        )


def find_credentials() -> grpc.ChannelCredentials | None:
    """Return the credentials that Ray would use, or None without RAY_USE_TLS.

    Raises:
        ConfigError: See ``find_files``.
    """
    files = find_files()
    if files is None:
        return None
    import grpc

    return grpc.ssl_channel_credentials(
        files.authority.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
    )


def read_expiry(files: TLSFiles) -> datetime.datetime:
    """Return when this host's certificate expires.

    Raises:
        ConfigError: It has expired, or it is not of the authority.
    """
    service = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    service.load_cert_chain(files.certificate, files.key, password="")
    context = _make_context(files)
    context.check_hostname = False
    # a handshake with itself, in memory
    one, other = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = context.wrap_bio(one, other), service.wrap_bio(other, one, server_side=True)
    try:
        for side in (client, server, client):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"the certificate {files.certificate} cannot be used ({error.verify_message}): make it again with {_MAKE}, "
            f"and copy all files of this host"
        ) from error
    end = (client.getpeercert() or {})["notAfter"]
    return datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(end)), datetime.UTC)


def explain_handshake(address: str) -> str:
    """Return why TLS fails with the head at an address, and the remedy; empty if TLS is not the reason.

    Args:
        address: ``host:port``.

    Raises:
        ConfigError: This host's own files cannot be used.
    """
    host, _, port = address.rpartition(":")
    files = find_files()
    try:
        connection = socket.create_connection((host, int(port)), TIMEOUT_SECONDS)
    except OSError:
        return ""
    with connection:
        if files is None:
            reason = _ASKS_FOR_TLS if _speaks_tls(connection, host) else ""
        else:
            read_expiry(files)
            reason = _find_reason(connection, host, files)
    return f"the Ray cluster at {address} {reason}" if reason else ""


_ASKS_FOR_TLS = (
    f"admits only hosts with a certificate of its authority, and {SWITCH} is not set here. Make a certificate for this "
    f"host with {_MAKE}, and read the file `environment` beside it into the shell"
)


def _find_reason(connection: socket.socket, host: str, files: TLSFiles) -> str:
    refuses = (
        f"refuses the certificate {files.certificate}, which is not of its authority: make one for this host with "
        f"{_MAKE} of that cluster"
    )
    try:
        with _make_context(files).wrap_socket(connection, server_hostname=host) as secured:
            # by TLS 1.3, the other side's verdict comes after the handshake
            return "" if secured.recv(1) else refuses
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in _OTHER_NAMES:
            return f"has a certificate that does not name {host}: make it again with --host NAME={host} ({_MAKE})"
        if error.verify_code == _EXPIRED:
            return f"has an expired certificate: make it again with {_MAKE}, copy it there, and restart Ray"
        return (
            f"has no certificate of the authority in {files.authority} ({error.verify_message}). Either it is not your "
            f"cluster, or this host has files of another authority: make them with {_MAKE} of that cluster"
        )
    except TimeoutError:
        return ""
    except OSError as error:
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
            return f"does not use TLS, but {SWITCH} is set here: start it with TLS on every node, or unset {SWITCH}"
        return refuses  # an alert, or a closed connection


def _speaks_tls(connection: socket.socket, host: str) -> bool:
    """Whether the other side begins a handshake; nothing is sent to it."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with context.wrap_socket(connection, server_hostname=host):
            return True
    except ssl.SSLError as error:
        return error.reason not in _NO_TLS
    except OSError:
        return False


def _make_context(files: TLSFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.authority))
    context.load_cert_chain(files.certificate, files.key, password="")  # asks for none
    context.set_alpn_protocols(["h2"])
    return context
