"""What ends a run for a reason that its user can mend; each carries its exit code."""

from __future__ import annotations


class ConfigError(ValueError):
    """The config or the input is wrong: nothing was computed, nothing written or lost."""

    exit_code = 2


class Unfinished(Exception):
    """The run stopped before its end; what it had committed is kept and the same command continues."""

    exit_code = 3


class Terminated(KeyboardInterrupt):
    """SIGTERM, treated as Ctrl-C is."""
