"""Errors that the user can fix; each carries the exit code of the command line."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator, Iterable
from pathlib import Path

STORAGE_FULL = "no space left for {folder}: free some space and run the same command again; committed results are kept"


class ConfigError(ValueError):
    """The config or the input is wrong. Nothing was computed, written or lost."""

    exit_code = 2


class Unfinished(Exception):
    """The run stopped early. Committed results are kept, and the same command continues."""

    exit_code = 3


class Diverged(ValueError):
    """A model's outputs are no longer finite numbers. The same training would diverge again."""


class OtherGPU(Exception):
    """This worker's GPU is of another kind than those that a run was planned for; another worker may do."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; handled like Ctrl-C."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return a question that names the known word nearest to a mistyped one, or an empty text.

    Examples:
        >>> suggest("digitz", ["digits", "paper"])
        ' (did you mean digits?)'
    """
    import difflib

    similar = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {similar[0]}?)" if similar else ""


_WRONG_KIND = (errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors of a folder or a link where a file is needed."""


@contextlib.contextmanager
def explain_file_errors(folder: Path) -> Generator[None]:
    """Turn errors of the file system into messages that name a remedy.

    Raises:
        Unfinished: The disk or the quota is full.
        ConfigError: The folder cannot be written to, or another process holds it.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unfinished(STORAGE_FULL.format(folder=folder)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, *_WRONG_KIND):
            where = error.filename2 or error.filename or folder
            raise ConfigError(
                f"cannot write to {folder} ({where}: {error.strerror}): choose another --output"
            ) from error
        if isinstance(error, BlockingIOError):
            raise ConfigError(str(error)) from error
        raise
