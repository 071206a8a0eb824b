"""Hash the source of methods: the results of a method are known by it."""

from __future__ import annotations

import ast
import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

from ungan_dist.config.own.functions import Function, import_function, import_method, is_own
from ungan_dist.config.own.options import find_options
from ungan_dist.files import hash_bytes, hash_json

_INSTALLED = {"site-packages", "dist-packages"}


def read_sources(texts: Iterable[str]) -> dict[str, str]:
    """Read ``module:function=HASH`` as a dict.

    Examples:
        >>> read_sources(["forget:mine=3f2a"])
        {'forget:mine': '3f2a'}
    """
    pairs = (text.partition("=") for text in texts)
    return {path: source for path, _, source in pairs}


def settle_sources(methods: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return ``module:function=HASH`` of every method of the user's own; only those without a known hash are imported.

    Raises:
        ValueError: a method cannot be imported.
    """
    sources = read_sources(known)
    return tuple(f"{path}={sources.get(path) or hash_source(path)}" for path in methods if is_own(path))


def hash_source(path: str) -> str:
    """Hash a method's source files and the version of its package.

    The files are that of the function, that of its options, and those that they use of the same package; or, for a file
    outside a package, of the same folder. A module counts as used if another imports it, also within a
    function, or holds something defined in it.

    Raises:
        ValueError: the method cannot be imported.
    """
    function = import_method(path)
    kind = find_options(function, path)
    return _hash(path, function, *([] if kind is None else [kind.__module__]))


def hash_function(path: str, kind: str) -> str:
    """Hash a function's source files and the version of its package, as ``hash_source`` does for a method.

    Raises:
        ValueError: the function cannot be imported.
    """
    return _hash(path, import_function(path, kind))


def _hash(path: str, function: Function, *more: str) -> str:
    module = path.partition(":")[0]
    names = [module, function.__module__, *more]
    files = {name: hash_bytes(file.read_bytes()) for name, file in _find_files(names, sys.modules[module])}
    return hash_json({"files": files, "version": find_version(path)})


def find_own_files(paths: Iterable[str]) -> dict[str, Path]:
    """Find the files of the user's own code, by their names below the folder from which Python imports it.

    As in ``hash_source``, a file counts as used if another imports it; those of the packages around it do too. Code of
    installed packages, and of this one, is left out.

    Args:
        paths: ``module:function`` of methods, training functions and others, whose modules are imported already.
    """
    found: dict[str, Path] = {}
    for path in paths:
        parts = path.partition(":")[0].split(".")
        names = [".".join(parts[: end + 1]) for end in range(len(parts))]
        first = sys.modules.get(names[-1])
        file = None if first is None else _file_of(first)
        if first is not None and file is not None and not is_installed(file):
            found |= _find_files(names, first)
    return found


def is_installed(file: Path) -> bool:
    """Whether a module's file belongs to an installed package."""
    return not _INSTALLED.isdisjoint(file.parts)


def other_source(path: str) -> ImportError:
    """Return the error of a worker that has another source than the plan."""
    return ImportError(
        f"the source of {path}, or the version of its package, is not that of the machine that planned the run: "
        f"install the same on every worker, and run again"
    )


def find_version(path: str) -> str:
    """Return the version of the package that a method is from; empty if it was not installed."""
    try:
        return metadata.version(path.partition(":")[0].partition(".")[0])
    except metadata.PackageNotFoundError:
        return ""


def _find_files(names: list[str], first: ModuleType) -> Iterator[tuple[str, Path]]:
    top, waiting, seen = first.__name__.partition(".")[0], list(names), set[str]()
    file = _file_of(first)
    if file is None:
        return
    root = file.parents[first.__name__.count(".") + (file.name == "__init__.py")]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        module = sys.modules.get(name)
        file = _file_below(root, name) if module is None else _file_of(module)
        if file is None or not file.is_relative_to(root):
            continue
        if name.partition(".")[0] != top and not _is_own(name, file):
            continue
        yield str(file.relative_to(root)), file
        waiting += [*_list_imports(name, file), *([] if module is None else _list_held(module))]


def _list_imports(name: str, file: Path) -> Iterator[str]:
    """List the modules that a module's file names in its imports, wherever they stand; what it takes of one may be one.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "b.py")
        ...     _ = file.write_text("import x.y\\ndef f():\\n    from .c import d")
        ...     list(_list_imports("a.b", file))
        ['x', 'x.y', 'a.c', 'a.c.d']
    """
    tree = ast.Module([], [])
    with contextlib.suppress(SyntaxError, ValueError):  # a compiled module, or one that cannot be imported
        tree = ast.parse(file.read_bytes())
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                yield from (".".join(parts[: end + 1]) for end in range(len(parts)))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _list_held(module: ModuleType) -> Iterator[str]:
    """List the modules that a module holds, or something of which; not its submodules, which anyone may import."""
    for value in list(vars(module).values()):
        owner = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        is_submodule = isinstance(value, ModuleType) and value.__name__.startswith(f"{module.__name__}.")
        if isinstance(owner, str) and owner in sys.modules and not is_submodule:
            yield owner


def _file_below(root: Path, name: str) -> Path | None:
    """Find the file of a module that is not imported yet."""
    place = root.joinpath(*name.split("."))
    files = (place / "__init__.py", place.with_name(f"{place.name}.py"))
    return next((file for file in files if file.is_file()), None)


def _file_of(module: ModuleType) -> Path | None:
    """Return a module's absolute path as Python imports it: a link keeps its own name, by which others import it."""
    file = getattr(module, "__file__", None)
    return None if file is None else Path(os.path.abspath(file))


def _is_own(name: str, file: Path) -> bool:
    """Whether a module is the user's own: not installed, and not of this package."""
    return not is_installed(file) and name.partition(".")[0] != "ungan_dist"
