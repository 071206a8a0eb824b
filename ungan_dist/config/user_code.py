"""Import and call the user's own code, and re-raise what it raises with its name."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def run_user_code(subject: str, *, remedy: str = "") -> Iterator[None]:
    """Print the block's output to stderr, and re-raise its exceptions as ValueError naming the user's code.

    Args:
        subject: names the code; the subject of the message.
        remedy: what to do if the code raises, as the end of the message.

    Raises:
        ValueError: the block raised, or called ``sys.exit``, which would end the command as a success.
    """
    try:
        # stdout belongs to the command, whose answer may be JSON
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{subject} needs {error.name}, which cannot be imported ({error}): run from the folder that holds it, or "
            f"install it, on every worker"
        ) from error
    except SystemExit as error:
        raise ValueError(f"{subject} called sys.exit({error.code!r}): leave that out") from error
    except Exception as error:  # user code may raise anything
        raise ValueError(f"{subject} raised {type(error).__name__}: {error}{remedy}") from error


def add_import_path(folder: str | None) -> None:
    """Make the user's modules in a folder importable, after all installed ones; None adds nothing."""
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)
