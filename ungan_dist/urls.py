"""URLs of outputs and of runs under them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from ungan_dist.errors import ConfigError

_SECRET = re.compile(r"secret|passw|token|credential|key|^sig$", re.IGNORECASE)
"""In the name of an option of a file system whose value nobody else may read."""


def is_url(place: str) -> bool:
    """Whether an output is object storage's URL and not a folder."""
    return "://" in place


def split_run(url: str) -> tuple[str, str]:
    """The output's URL and the name of a run under it.

    Raises:
        ConfigError: nothing follows the bucket.
    """
    parts = urlsplit(trim(url))
    parent, _, name = parts.path.rpartition("/")
    if not name:
        raise ConfigError(f"{url} names no run: give the URL of the output, a slash, and the run's name")
    return urlunsplit(parts._replace(path=parent)), name


def join_url(url: str, name: str) -> str:
    """The URL of something below another, the query kept at the end."""
    parts = urlsplit(trim(url))
    return urlunsplit(parts._replace(path=f"{parts.path}/{name}"))


def trim(url: str) -> str:
    """A URL without slashes at the end of its path."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def refuse_credentials(url: str) -> None:
    """Refuses a URL that holds a key or a password; the message does not repeat it.

    Raises:
        ConfigError: something stands before the bucket's name, or a key among the options behind the ``?``.
    """
    parts = urlsplit(url)
    telling = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(name)]
    if telling:
        raise ConfigError(
            f"the URL of the output holds {' and '.join(telling)}, which every list of processes shows: take it out "
            f"and give it by the environment or the provider's own files"
        )
    # Azure's own form has the container there
    before = parts.netloc.rpartition("@")[0]
    if before and before != "anonymous" and (parts.scheme not in ("abfs", "abfss") or ":" in before):
        raise ConfigError(
            f"the URL of the output on {parts.netloc.rpartition('@')[2]} holds credentials, which every list of "
            f"processes shows: take them out and give them by the environment or the provider's own files"
        )
