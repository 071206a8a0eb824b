"""Methods of the user's own in a config: functions and typed options in Python, and the source that is hashed."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path

import pytest
from torch import nn

from ungan_dist.config.audit import AuditConfig, method_config
from ungan_dist.config.identity import identity, run_hash
from ungan_dist.config.own.functions import import_method
from ungan_dist.config.own.options import find_options
from ungan_dist.config.own.source import hash_function, hash_source
from ungan_dist.config.recipes import digits
from ungan_dist.methods import Request


@dataclasses.dataclass(frozen=True)
class Options:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)
    name: str | None = None


def forget(request: Request, options: Options) -> nn.Module:
    del options
    return request.copy_original()


def test_a_function_and_typed_options_become_texts_that_give_them_back() -> None:
    options = Options(rate=0.25, sizes=(3,), name="a=b.c")
    config = digits(methods=["original", "retrain", forget], own_options=[options])
    name = f"{__name__}:forget"
    assert config.methods == ("original", "retrain", name)
    assert method_config(config, name).settings() == options
    assert method_config(config, name).source == hash_source(name)
    plain = digits(methods=["original", "retrain", forget])
    assert method_config(plain, name).settings() == Options()
    assert identity(plain) == identity(digits())
    assert run_hash(plain, "data") == run_hash(digits(), "data") != run_hash(config, "data")
    # every default again is the same run
    assert run_hash(digits(methods=[*plain.methods], own_options=[Options()]), "data") == run_hash(plain, "data")


def test_what_workers_cannot_import_or_write_down_is_refused() -> None:
    def local(request: Request) -> nn.Module:
        return request.copy_original()

    with pytest.raises(ValueError, match="has no name by which worker processes can import it"):
        digits(methods=["original", local])
    with pytest.raises(ValueError, match="has no name by which worker processes can import it"):
        digits(methods=["original", lambda request: request.copy_original()])
    with pytest.raises(ValueError, match="no method of this run has options of type Options"):
        digits(own_options=[Options()])
    with pytest.raises(ValueError, match=r"option name of method .*forget is <object.*must be a number, a text"):
        digits(methods=["original", forget], own_options=[Options(name=object())])  # pyright: ignore[reportArgumentType]


@dataclasses.dataclass(frozen=True)
class Incomplete:
    rate: float


def test_a_signature_that_cannot_be_called_is_refused() -> None:
    def untyped(request, options): ...
    def three(request, options, more): ...
    def no_dataclass(request, options: int): ...
    def incomplete(request, options: Incomplete): ...
    def missing(request, options: "NoSuchName"): ...  # pyright: ignore[reportUndefinedVariable]  # noqa: F821, UP037

    for function, reason in (
        (untyped, "the type of options must be a frozen dataclass"),
        (three, "must take the request, and may take its options"),
        (no_dataclass, "the type of options must be a frozen dataclass"),
        (incomplete, "Give every field a default"),
        (missing, "reading the type of options raised NameError"),
    ):
        with pytest.raises(ValueError, match=reason):
            find_options(function, f"mine:{function.__name__}")


def write_package(folder: Path, name: str) -> Path:
    package = folder / name
    package.mkdir()
    files = {
        "__init__": "",
        "methods": f"import json\nfrom {name}.losses import loss\n\ndef forget(request):\n    return loss(request)\n",
        "losses": f"from {name} import deeper\n\ndef loss(request):\n    return deeper.deep(request)\n",
        "deeper": "def deep(request):\n    return request.copy_original()\n",
        "other": "UNUSED = 1\n",
    }
    for stem, text in files.items():
        (package / f"{stem}.py").write_text(text)
    return package


def hash_anew(name: str) -> str:
    for module in [one for one in sys.modules if one.partition(".")[0] == name]:
        del sys.modules[module]
    return hash_source(f"{name}.methods:forget")


def test_the_hash_covers_what_the_method_uses_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = write_package(tmp_path, "hashed_package")
    before = hash_anew("hashed_package")
    (package / "other.py").write_text("UNUSED = 2\n")
    assert hash_anew("hashed_package") == before
    (package / "deeper.py").write_text("def deep(request):\n    return request.copy_fresh()\n")
    changed = hash_anew("hashed_package")
    assert changed != before
    # another version of the installed package is another method
    info = tmp_path / "hashed_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hashed_package\nVersion: 1.0\n")
    assert hash_anew("hashed_package") != changed


@pytest.mark.parametrize(
    "imports",
    [
        "from {0}.settings import RATE\n",
        "import {0}.settings\n",
        "def unused():\n    from {0}.settings import RATE\n",
        "def unused():\n    import {0}.settings as known\n",
        "def unused():\n    from .settings import RATE\n",
        "def unused():\n    from . import settings\n",
        "class Unused:\n    def unused(self):\n        from .reading import read\n",
    ],
)
def test_the_hash_covers_constants_and_imports_within_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imports: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    package = write_package(tmp_path, "lazy_package")
    (package / "settings.py").write_text("RATE = 0.1\n")
    (package / "reading.py").write_text("def read():\n    from .settings import RATE\n    return RATE\n")
    with (package / "deeper.py").open("a") as file:
        file.write(imports.format("lazy_package"))
    before = hash_anew("lazy_package")
    # what this process happens to have imported makes no difference
    importlib.import_module("lazy_package.other")
    importlib.import_module("lazy_package.settings")
    assert hash_source("lazy_package.methods:forget") == before
    (package / "settings.py").write_text("RATE = 0.2\n")
    assert hash_anew("lazy_package") != before
    (package / "settings.py").write_text("RATE = 0.1\n")
    (package / "other.py").write_text("UNUSED = 2\n")
    assert hash_anew("lazy_package") == before


@pytest.mark.parametrize("kind", ["training function", "augmentation"])
def test_the_hash_of_a_file_beside_covers_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "beside_method.py").write_text("from beside_rate import RATE\n\ndef make():\n    import beside_lazy\n")
    hashes: set[str] = set()
    for rate, lazy in (("1", "1"), ("2", "1"), ("1", "2")):
        (tmp_path / "beside_rate.py").write_text(f"RATE = {rate}\n")
        (tmp_path / "beside_lazy.py").write_text(f"LAZY = {lazy}\n")
        for name in ("beside_method", "beside_rate", "beside_lazy"):
            sys.modules.pop(name, None)
        hashes.add(hash_function("beside_method:make", kind))
    assert len(hashes) == 3


def test_the_hash_is_that_of_the_files_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        write_package(tmp_path / place, "moved_package")
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / place)
            found.append(hash_anew("moved_package"))
    assert found[0] == found[1]


def test_a_record_gives_the_hash_without_importing_anything() -> None:
    config = AuditConfig(name="mine", methods=("original", "absent:forget"), own_methods=("absent:forget=3f2a",))
    assert method_config(config, "absent:forget").source == "3f2a"
    assert "absent" not in sys.modules
    narrowed = dataclasses.replace(config, methods=("original",))
    assert narrowed.own_methods == ()


def test_a_missing_module_is_named_once_with_the_nearest_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_method.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"there is no module my_methd \(did you mean my_method\?\)") as caught:
        import_method("my_methd:my_method")
    assert str(caught.value).count("my_methd") == 2
