"""Find the function of a method by its name, and its name by the function."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from ungan_dist.config.user_code import add_import_path, run_user_code
from ungan_dist.errors import suggest

Function = Callable[..., Any]


def is_own(name: object) -> bool:
    """Return whether a row is a method of the user's own.

    Examples:
        >>> is_own("mypackage.forget:my_method"), is_own("ungan")
        (True, False)
    """
    return isinstance(name, str) and ":" in name


def name_options(path: str) -> str:
    """Return the name by which a method's options are set: that of its function.

    Examples:
        >>> name_options("mypackage.forget:my_method")
        'my_method'
    """
    return path.partition(":")[2]


EXAMPLES = {
    "method": "mypackage.forget:my_method",
    "training function": "mypackage.train:fit",
    "augmentation": "mypackage.augment:make",
}
"""Kinds of functions of the user's own, each with an example of a name."""


def check_own(path: str, kind: str = "method") -> None:
    """Raise ValueError unless a name can be that of a function of the user's own, by default of a method."""
    module, _, function = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), function)):
        raise ValueError(
            f"{'an' if kind[0] == 'a' else 'a'} {kind} of your own is named module:function, such as {EXAMPLES[kind]}; "
            f"got {path!r}"
        )
    if module == "__main__":
        raise ValueError(
            f"{path} names the script or notebook itself, which the worker processes do not import: move the function "
            f"to a file of its own beside it, such as own.py, and write own:{function}"
        )


def refuse_same_names(methods: Iterable[str], taken: Collection[str]) -> None:
    """Refuse methods of the user's own whose options have one name.

    Args:
        methods: names of rows.
        taken: names that other options have.

    Raises:
        ValueError: two functions have one name, or a function has a name that is taken.
    """
    own = [name for name in methods if is_own(name)]
    by_name = {name_options(path): path for path in own}
    for path in own:
        if name_options(path) in taken:
            raise ValueError(f"your method {path} has the name of an option of the run: rename the function")
        if (other := by_name[name_options(path)]) != path:
            raise ValueError(f"{path} and {other} have one name, by which options are set: rename one of the functions")


def name_function(function: Function) -> str:
    """Return ``module:function`` of a function.

    Raises:
        ValueError: workers cannot import it by that name.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module is None or not name.isidentifier():
        raise ValueError(
            f"{function!r} has no name by which worker processes can import it: define it with def, at the top level "
            f"of a module"
        )
    path = f"{module}:{name}"
    check_own(path)
    return path


def import_method(path: str) -> Function:
    """Import the method ``module:function``: see ``import_function``."""
    return import_function(path, "method")


def import_function(path: str, kind: str) -> Function:
    """Import ``module:function``, also from the current folder.

    Args:
        path: the function's name.
        kind: what the function is, for messages; see ``EXAMPLES``.

    Raises:
        ValueError: there is no such module or function, or importing it raises.
    """
    check_own(path, kind)
    module, _, name = path.partition(":")
    add_import_path(os.getcwd())
    top = module.partition(".")[0]
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        near = suggest(top, [file.stem for file in Path.cwd().glob("*.py")])
        raise ValueError(
            f"{kind} {path}: there is no module {top}{near}. Run from the folder that holds it, or install it, on "
            f"every worker"
        )
    with run_user_code(f"{kind} {path}: importing {module}"):
        imported = importlib.import_module(module)
    function = getattr(imported, name, None)
    if not callable(function) or inspect.isclass(function):
        place = getattr(imported, "__file__", None) or "Python itself"
        known = [one for one, value in vars(imported).items() if inspect.isfunction(value)]
        raise ValueError(
            f"{kind} {path}: {module}, imported from {place}, has no function {name!r}{suggest(name, known)}"
        )
    return function
