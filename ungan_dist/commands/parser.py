"""Parse the options of commands other than ``run``."""

from __future__ import annotations

import argparse
from typing import NoReturn

from ungan_dist.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Raise ``ConfigError`` on wrong options instead of exiting."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"ungan-dist {command}", add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (see {self.prog} --help)")
