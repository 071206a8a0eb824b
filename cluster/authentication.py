"""Find this user's Ray token, refuse one that other users can read, and switch Ray to token mode."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ungan_dist.errors import ConfigError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Variables that Ray reads: whether tokens are used, the token, and the file that holds it."""
_PRINTED = "ray get-auth-token prints it on the cluster's head"


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token, and the variable or file that it was read from."""

    value: str = field(repr=False)
    source: str


def find_token() -> Token | None:
    """Return the token that Ray would use: of a variable, of the file that one names, or of ``~/.ray/auth_token``.

    Returns:
        None if there is no token, or if RAY_AUTH_MODE turns tokens off.

    Raises:
        ConfigError: a variable has a useless value, or other users can read or replace the file.
    """
    mode = os.environ.get(MODE, "token")
    if mode.lower() not in ("token", "disabled"):
        raise ConfigError(f"{MODE} must be token or disabled, got {mode!r}")
    if mode.lower() == "disabled":
        return None
    if value := os.environ.get(TOKEN, "").strip():
        return Token(value=value, source=TOKEN)
    named, path = os.environ.get(TOKEN_PATH), token_file()
    try:
        value = path.read_text().strip()
    except OSError as error:
        if not named and isinstance(error, FileNotFoundError):
            return None
        raise ConfigError(f"the token file {path}{_named(named)} cannot be read: {error.strerror}") from error
    if not value:
        raise ConfigError(f"the token file {path}{_named(named)} is empty")
    if problem := describe_exposure(path):
        raise ConfigError(f"{problem}. Run: {chmod_command(path)}")
    return Token(value=value, source=str(path))


def _named(variable: str | None) -> str:
    return f", which {TOKEN_PATH} names," if variable else ""


def token_file() -> Path:
    """Return the file in which Ray looks for a token."""
    return Path(os.environ.get(TOKEN_PATH) or Path.home() / ".ray" / "auth_token").absolute()


def describe_exposure(path: Path) -> str:
    """Name what other users can do with a token file, or return an empty text.

    Files and folders of another owner pass, as in ssh: this user cannot protect them.
    """
    file, folder = path.stat(), path.parent.stat()
    if file.st_uid == os.geteuid() and file.st_mode & 0o077:
        return (
            f"the token file {path} has mode {stat.S_IMODE(file.st_mode):04o}, but only its owner may have access: "
            f"whoever reads it can run code on the cluster"
        )
    if folder.st_uid == os.geteuid() and folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX:
        return (
            f"the folder {path.parent} has mode {stat.S_IMODE(folder.st_mode):04o}: other users can replace the token "
            f"in it"
        )
    return ""


def chmod_command(path: Path) -> str:
    """Return the command that protects a token file."""
    folder = f"chmod go-w {shlex.quote(str(path.parent))} && " if path.parent.stat().st_mode & 0o022 else ""
    return f"{folder}chmod 600 {shlex.quote(str(path))}"


def explain_missing_token() -> str:
    """State where a token was looked for."""
    if os.environ.get(MODE, "").lower() == "disabled":
        return f"{MODE} is disabled, so no token was sent"
    return f"there is no token: {TOKEN} and {TOKEN_PATH} are not set, and {token_file()} does not exist"


def explain_refusal(where: str, token: Token | None) -> str:
    """State that a cluster refused access, the reason, and the remedy, in one sentence."""
    place = f"to {token_file()}, or name its file in {TOKEN_PATH}"
    if token is None:
        return f"{where} refused access: {explain_missing_token()}. Copy the cluster's token {place} ({_PRINTED})"
    if token.source == TOKEN:
        place = f"into {TOKEN}, or unset it and copy the token {place}"
    return (
        f"{where} refused access: the token in {token.source} is wrong. Copy the cluster's token {place} ({_PRINTED})"
    )


@contextlib.contextmanager
def ray_authentication(token: str | None, **variables: str) -> Iterator[None]:
    """Set Ray's variables, so that this process uses a token or none, and restore them at the end.

    Ray reads its variables on import; a Ray that is already imported reads them again here.

    Args:
        token: the value, or None to connect to a cluster without tokens.
        variables: further environment variables for the processes that Ray starts.
    """
    wanted: dict[str, str] = {MODE: "token" if token else "disabled", **variables}
    if token:
        wanted.setdefault(TOKEN, token)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    reload_authentication()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        reload_authentication()


def reload_authentication() -> None:
    """Make a Ray that is already imported read its variables again."""
    if "ray._raylet" not in sys.modules:
        return
    raylet: Any = sys.modules["ray._raylet"]
    # as Ray does it itself when it turns tokens on
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()
