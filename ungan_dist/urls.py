"""URLs of outputs in object storage, and of the runs below them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from ungan_dist.errors import ConfigError

SECRET_NAME = (
    r"(?:[\w.-]*(?:secret|passw|passphrase|token|credential|signature|key|bearer|connection[_-]?string)[\w.-]*"
    r"|sas|sig|pwd|pass|auth|authorization|proxy[_-]?options)"
)
"""Matches a whole name of an option that holds a secret, in any case: of a URL, or of a connection string."""
_SECRET = re.compile(SECRET_NAME, re.IGNORECASE)
_USER_INFO = re.compile(r"(^|//)[^/?#\s]*:[^/?#\s]*@")
"""A user and a password before a host, with or without a scheme."""


def is_url(place: str) -> bool:
    """Return whether an output is a URL of object storage rather than a folder."""
    return "://" in place


def split_run(url: str) -> tuple[str, str]:
    """Split the URL of a run into the URL of its output and the run's name.

    Raises:
        ConfigError: The URL ends at the bucket.
    """
    parts = urlsplit(trim(url))
    parent, _, name = parts.path.rpartition("/")
    if not name:
        raise ConfigError(f"{url} names no run: give the URL of the output, a slash, and the run's name")
    return urlunsplit(parts._replace(path=parent)), name


def join_url(url: str, name: str) -> str:
    """Append a name to the path of a URL; the query stays at the end."""
    parts = urlsplit(trim(url))
    return urlunsplit(parts._replace(path=f"{parts.path}/{name}"))


def trim(url: str) -> str:
    """Remove trailing slashes from the path of a URL."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def refuse_credentials(url: str) -> None:
    """Refuse a URL that contains a key or a password, without repeating it in the message.

    Raises:
        ConfigError: The query contains a secret, or a user name precedes the bucket.
    """
    parts = urlsplit(url)
    secrets = _secret_options(f"{parts.query}&{parts.fragment}")
    if secrets:
        raise ConfigError(
            f"the URL of the output holds {' and '.join(secrets)}, which every list of processes shows: remove it and "
            f"use the environment or the provider's own files"
        )
    # Azure puts the container before the @
    before = parts.netloc.rpartition("@")[0]
    if before and before != "anonymous" and (parts.scheme not in ("abfs", "abfss") or ":" in before):
        raise ConfigError(
            f"the URL of the output on {parts.netloc.rpartition('@')[2]} holds credentials, which every list of "
            f"processes shows: remove them and use the environment or the provider's own files"
        )


_WORD = re.compile(r"(?:://?|//)[^/?#\s]*:[^/?#\s]*@")
_MISTYPED = re.compile(r"(?:^|=)(s3|gs|gcs|abfss?):(?:/(?!/)|[^/]+/)", re.IGNORECASE)


def refuse_secret_words(words: Sequence[str]) -> None:
    """Refuse a command line that contains a URL with a secret, or one of storage with a missing slash.

    Raises:
        ConfigError: One of the words contains it; the message does not repeat it.

    Examples:
        >>> refuse_secret_words(["run", "digits", "--output", "s3://bucket/runs?region=eu-west-1"])
        >>> refuse_secret_words(["runs", "s3://me:secret@bucket/runs"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ungan_dist.errors.ConfigError: the command contains a URL with a password, which every list of processes ...
    """
    for word in words:
        found = ["a URL with a password"] if _WORD.search(word) else []
        if ":/" in word:
            options = "&".join(re.split("[?#]", word)[1:])
            found += [f"the URL option {name}" for name in _secret_options(options)]
        if found:
            raise ConfigError(
                f"the command contains {' and '.join(found)}, which every list of processes shows: remove it and use "
                f"the environment or the provider's own files"
            )
        if mistyped := _MISTYPED.search(word):
            raise ConfigError(f"{word} is neither a folder nor a URL: object storage is {mistyped[1]}://BUCKET/PATH")


def _secret_options(query: str) -> list[str]:
    """Name the options that hold a secret: by their name, or because their value is a URL that holds one."""
    found: list[str] = []
    for name, value in parse_qsl(query.replace(";", "&"), keep_blank_values=True):
        inner = value.partition("?")[2]
        if _SECRET.fullmatch(name) or _USER_INFO.search(value) or (inner and _secret_options(inner)):
            found.append(name)
    return found
