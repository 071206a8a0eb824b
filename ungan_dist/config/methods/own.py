"""A method of the user's own as one row of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ungan_dist.config.own.functions import Function, import_method
from ungan_dist.config.own.options import NoOptions, find_options


@dataclass(frozen=True, kw_only=True)
class OwnMethodConfig:
    """A method of your own and its options."""

    path: str
    """``module:function``."""
    source: str = ""
    """Hash of its source when the run was planned; other source is refused."""
    options: tuple[tuple[str, Any], ...] = ()
    """Options that differ from their defaults."""
    function: Function | None = None
    """The function, where it was given itself; by default it is imported."""

    def find_function(self) -> Function:
        """Return the function.

        Raises:
            ValueError: it cannot be imported.
        """
        return self.function or import_method(self.path)

    def settings(self) -> Any:
        """Return the options as an instance of the method's own class."""
        kind = find_options(self.find_function(), self.path)
        return NoOptions() if kind is None else kind(**dict(self.options))
