"""Ed25519 keys and signatures, by the package ``cryptography``, which only attestations need."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

INSTALL = "pip install 'ungan-dist[attest]'"


def make_key(path: Path) -> Path:
    """Write a new private key as PEM, readable by this user alone, and its public key beside it.

    Returns:
        The file of the public key: the same name with ``.pub``.

    Raises:
        ConfigError: A file is there already, the folder cannot be written to, or ``cryptography`` is not installed.
    """
    ed25519, serialization = _import()
    private = ed25519.Ed25519PrivateKey.generate()
    encoding, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_password)
    public = private.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    beside = path.with_name(f"{path.name}.pub")
    if taken := [str(file) for file in (path, beside) if os.path.lexists(file)]:
        raise ConfigError(f"{taken[0]} exists and is not overwritten: name another file for the new key")
    try:
        for file, content, mode in ((path, secret, 0o600), (beside, public, 0o644)):
            with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
    except OSError as error:
        raise ConfigError(f"cannot write the key {path}: {error.strerror}") from error
    return beside


def sign(content: bytes, key: Path) -> tuple[str, str]:
    """Sign some bytes.

    Args:
        content: The bytes.
        key: File of the private key, as PEM.

    Returns:
        The signature and the public key, both in base64.

    Raises:
        ConfigError: The file is no private Ed25519 key, other users can read it, or ``cryptography`` is not installed.
    """
    private = read_private_key(key)
    return _to_text(private.sign(content)), _to_text(private.public_key().public_bytes_raw())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key; see ``sign`` for what is refused."""
    ed25519, serialization = _import()
    content = _read(path)
    try:
        found = serialization.load_pem_private_key(content, password=None)
    except TypeError as error:
        raise ConfigError(
            f"{path} is encrypted with a password. Write it without one: openssl pkey -in {path} -out KEY.pem"
        ) from error
    except ValueError as error:
        if b"-----BEGIN PUBLIC KEY-----" in content:
            raise ConfigError(
                f"{path} is a public key, which only checks signatures. --key needs the private key: attest --new-key "
                f"wrote it to the same name without .pub"
            ) from error
        raise ConfigError(f"{path} is no private key in PEM: make one with ungan-dist attest --new-key FILE") from error
    if not isinstance(found, ed25519.Ed25519PrivateKey):
        raise ConfigError(
            f"{path} is a key of another kind, and Ed25519 is needed: make one with ungan-dist attest --new-key FILE"
        )
    if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise ConfigError(f"other users can read or write the private key {path} (mode {mode:04o}): chmod 600 {path}")
    return found


def read_public_key(path: Path) -> str:
    """Read a public key from PEM, and return it in base64.

    Raises:
        ConfigError: The file is no public Ed25519 key, or ``cryptography`` is not installed.
    """
    ed25519, serialization = _import()
    try:
        found = serialization.load_pem_public_key(_read(path))
    except ValueError as error:
        raise ConfigError(
            f"{path} is no public key in PEM: ungan-dist attest --new-key FILE writes FILE.pub, and openssl pkey "
            f"-in KEY -pubout -out FILE writes that of another key"
        ) from error
    if not isinstance(found, ed25519.Ed25519PublicKey):
        raise ConfigError(f"{path} is a key of another kind, and Ed25519 is needed")
    return _to_text(found.public_bytes_raw())


def is_signature(content: bytes, signature: str, public_key: str) -> bool:
    """Return whether a signature, in base64, is that of some bytes by a key, in base64.

    Raises:
        ConfigError: ``cryptography`` is not installed.
    """
    ed25519, _ = _import()
    from cryptography.exceptions import InvalidSignature

    try:
        key = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def _import() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise ConfigError(f"attestations need the package cryptography, which is not installed: {INSTALL}") from error
    return ed25519, serialization


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the key {path} cannot be read: {error.strerror}") from error


def _to_text(content: bytes) -> str:
    return base64.b64encode(content).decode()
