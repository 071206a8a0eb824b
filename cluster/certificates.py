"""Make a private authority and a certificate per host, for Ray's TLS between nodes."""

from __future__ import annotations

import datetime
import ipaddress
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist.cluster.tls import AUTHORITY, CERTIFICATE, KEY, SWITCH, refuse_open_key
from ungan_dist.errors import ConfigError, explain_file_errors
from ungan_dist.store import write_file

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

PLACE = "~/.ray/tls"
"""Folder of a host's files on that host."""
VARIABLES = {
    SWITCH: "1",
    CERTIFICATE: f"{PLACE}/host.crt",
    KEY: f"{PLACE}/host.key",
    AUTHORITY: f"{PLACE}/authority.crt",
}
"""What Ray reads, and what ``environment`` exports."""
INSTALL = "pip install 'ungan-dist[tls]'"
_EVERY_HOST = ("localhost", "127.0.0.1")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_AUTHORITY_DAYS = 3650
_CLOCKS = datetime.timedelta(hours=1)
"""How far the clock of a host may be behind."""


@dataclass(frozen=True, kw_only=True)
class TLSHost:
    """A host of the cluster, and the names and addresses by which others reach it."""

    name: str
    names: tuple[str, ...]


def read_hosts(texts: Sequence[str]) -> list[TLSHost]:
    """Read hosts as they stand on the command line.

    Args:
        texts: ``NAME`` or ``NAME=ADDRESS,…``; a name is also one of the names by which others reach the host.

    Raises:
        ConfigError: A text is neither a name nor an address, or two hosts have one name.

    Examples:
        >>> read_hosts(["head=10.0.0.1", "10.0.0.2"])
        [TLSHost(name='head', names=('head', '10.0.0.1')), TLSHost(name='10.0.0.2', names=('10.0.0.2',))]
    """
    hosts: list[TLSHost] = []
    for text in texts:
        name, _, rest = text.partition("=")
        names = (name, *filter(None, rest.split(",")))
        if wrong := next((one for one in names if not (_NAME.fullmatch(one) or _is_address(one))), None):
            raise ConfigError(f"--host takes NAME or NAME=ADDRESS,…: {wrong!r} is neither a host's name nor an address")
        if not _NAME.fullmatch(name):
            raise ConfigError(f"--host {text}: give the host a name too, such as head={name}")
        if any(name == host.name for host in hosts):
            raise ConfigError(f"--host {name} is given twice: give all its addresses at once, NAME=ADDRESS,ADDRESS")
        hosts.append(TLSHost(name=name, names=names))
    return hosts


def make_certificates(folder: Path, hosts: Sequence[TLSHost], *, days: int) -> list[Path]:
    """Write a folder for each host: its key, its certificate, the authority's certificate and ``environment``.

    The authority is made once; a later call adds hosts and renews those that it names.

    Args:
        folder: Keeps the authority's key. New folders have mode 0700 and new files 0600.
        hosts: The hosts.
        days: After this many days, the certificates are refused.

    Returns:
        The folder of each host.

    Raises:
        ConfigError: The folder cannot be used, or ``cryptography`` is not installed.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise ConfigError(f"tls needs the package cryptography, which is not installed: {INSTALL}") from error

    made: list[Path] = []
    with explain_file_errors(folder):
        authority, signer = _open_authority(folder)
        for host in hosts:
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = _issue(host, key.public_key(), authority, signer, days)
            place = folder / host.name
            _write_secret(place / "host.key", key)
            write_file(place / "host.crt", _to_pem(certificate))
            write_file(place / "authority.crt", _to_pem(authority))
            write_file(place / "environment", environment().encode())
            made.append(place)
    return made


def environment() -> str:
    """Return the lines that a shell on a host reads before ``ray start`` and before ``ungan-dist``."""
    values = {name: value.replace("~", "$HOME") for name, value in VARIABLES.items()}
    return "".join(f'export {name}="{value}"\n' for name, value in values.items())


def describe_copying(folder: Path) -> str:
    """Return the command that copies a host's folder to the host."""
    place, name = PLACE.removeprefix("~/"), shlex.quote(folder.name)
    return f"ssh {name} mkdir -p -m 700 {place} && scp -p {shlex.quote(str(folder))}/* {name}:{place}/"


def _open_authority(folder: Path) -> tuple[Certificate, Any]:
    """Read the authority of a folder, or make one."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret, public = folder / "authority.key", folder / "authority.crt"
    if secret.exists() or public.exists():
        refuse_open_key(secret, "admits hosts to the cluster")
        try:
            key = serialization.load_pem_private_key(secret.read_bytes(), password=None)
            return x509.load_pem_x509_certificate(public.read_bytes()), key
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{folder} has no readable authority.key and authority.crt: name a new folder") from error
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"ungan-dist {x509.random_serial_number():x}"[:32])])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(**{use: use in ("key_cert_sign", "crl_sign") for use in _USES})
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + datetime.timedelta(days=_AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_secret(secret, key)
    write_file(public, _to_pem(certificate))
    return certificate, key


_USES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


def _issue(host: TLSHost, public_key: Any, authority: Certificate, signer: Any, days: int) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    names = [_as_general_name(name) for name in dict.fromkeys((*host.names, *_EVERY_HOST))]
    now = datetime.datetime.now(datetime.UTC)
    end = min(now + datetime.timedelta(days=days), authority.not_valid_after_utc)
    # every node of Ray is a server and a client
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder(issuer_name=authority.subject, public_key=public_key)
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host.name)]))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{use: use == "digital_signature" for use in _USES}), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return builder.sign(signer, hashes.SHA256())


def _as_general_name(name: str) -> Any:
    from cryptography import x509

    return x509.IPAddress(ipaddress.ip_address(name)) if _is_address(name) else x509.DNSName(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _write_secret(path: Path, key: Any) -> None:
    write_file(path, _to_pem(key))
    path.chmod(0o600)  # also where a group shares the folder


def _to_pem(item: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encoding = serialization.Encoding.PEM
    if not hasattr(item, "private_bytes"):
        return item.public_bytes(encoding)
    return item.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
