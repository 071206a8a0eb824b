"""URLs of outputs and of runs under them."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from ungan_dist.errors import ConfigError


def is_url(place: str) -> bool:
    """Whether an output is object storage's URL and not a folder."""
    return "://" in place


def split_run(url: str) -> tuple[str, str]:
    """The output's URL and the name of a run under it.

    Raises:
        ConfigError: nothing follows the bucket.
    """
    parts = urlsplit(trimmed(url))
    parent, _, name = parts.path.rpartition("/")
    if not name:
        raise ConfigError(f"{url} names no run: give the URL of the output, a slash, and the run's name")
    return urlunsplit(parts._replace(path=parent)), name


def within(url: str, name: str) -> str:
    """The URL of something below another, the query kept at the end."""
    parts = urlsplit(trimmed(url))
    return urlunsplit(parts._replace(path=f"{parts.path}/{name}"))


def trimmed(url: str) -> str:
    """A URL without slashes at the end of its path."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path.rstrip("/")))


def refuse_credentials(url: str) -> None:
    """Refuses a URL that holds a key or a password; the message does not repeat it.

    Raises:
        ConfigError: something stands before the bucket's name.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc and not parts.netloc.startswith("anonymous@"):
        raise ConfigError(
            f"the URL of the output on {parts.netloc.rpartition('@')[2]} holds credentials, which every list of "
            f"processes shows: take them out and give them by the environment or the provider's own files"
        )
