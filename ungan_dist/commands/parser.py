"""Parse the options of commands other than ``run``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from ungan_dist.errors import ConfigError, suggest


class Parser(argparse.ArgumentParser):
    """Raise ``ConfigError`` on wrong options instead of exiting."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"ungan-dist {command}", add_help=False, allow_abbrev=False)

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse all words of a command.

        Raises:
            ConfigError: A word is missing, unknown or wrong.
        """
        own, unknown = self.parse_known_args(words)
        if unknown:
            name = unknown[0].partition("=")[0]
            known = [option for action in self._actions for option in action.option_strings]
            kind = "option" if name.startswith("-") else "argument"
            self.error(f"unknown {kind} {name}{suggest(name, known)}")
        return own

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")
