"""``ungan-dist new``: write the skeleton of a method of your own, with its test."""

from __future__ import annotations

import keyword
from pathlib import Path

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError

USAGE = """\
usage: ungan-dist new method NAME

Write NAME.py and test_NAME.py into the current folder: a method of your own with typed options, which already works,
and its test. No file is overwritten.

  ungan-dist new method my_method
  pytest test_my_method.py
  ungan-dist run digits --methods original,retrain,my_method:my_method

A finished run of the same recipe is extended: its originals and shadow models are reused. Options other than the
defaults, such as --my-method.epochs 3, make another run.

exit codes: 0 success; 2 wrong name, or a file exists
"""

_METHOD = '''\
"""@NAME@: replace this line by what the method does, and by its source."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ungan_dist.methods import Request


@dataclass(frozen=True, kw_only=True)
class @CLASS@Options:
    """Options; each is set by --@OPTION@.…"""

    epochs: int = 2
    """Passes over the retain set."""
    learning_rate: float = 0.01
    """Constant learning rate of SGD."""


def @NAME@(request: Request, options: @CLASS@Options) -> nn.Module:
    """Train a copy of the original on the retain set."""
    model = request.copy_original()
    optimizer = torch.optim.SGD(model.parameters(), lr=options.learning_rate)
    epochs = request.epochs(model=model, optimizer=optimizer)  # what a killed run continues from
    for epoch in epochs.iterate("@NAME@", options.epochs):
        request.train_pass(model, request.retain, optimizer, epoch=epoch, purpose="@NAME@")
    return model.eval()
'''
_TEST = '''\
"""The contract of methods: originals and data unmodified, repeatable, finite, also for one forget example."""

from __future__ import annotations

from @NAME@ import @CLASS@Options, @NAME@

from ungan_dist.testing import check_method


def test_it_keeps_the_contract_of_methods() -> None:
    check_method(@NAME@)
    check_method(@NAME@, @CLASS@Options(epochs=1))
'''


def main(arguments: list[str]) -> int:
    """Write the skeleton of a method."""
    parser = Parser("new")
    parser.add_argument("what", choices=["method"])
    parser.add_argument("name")
    own = parser.parse(arguments)
    name = own.name.replace("-", "_")
    _check_name(name)
    words = {"NAME": name, "CLASS": "".join(map(str.capitalize, name.split("_"))), "OPTION": name.replace("_", "-")}
    files = {Path(f"{name}.py"): _METHOD, Path(f"test_{name}.py"): _TEST}
    if present := [str(path) for path in files if path.exists() or path.is_symlink()]:
        renamed = "" if name == own.name else f" (the method is called {name}: Python's names have no hyphen)"
        are = "exist and are" if len(present) > 1 else "exists and is"
        raise ConfigError(f"{', '.join(present)} {are} not overwritten{renamed}: choose another name or folder")
    for path, text in files.items():
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        path.write_text(text)
    if name != own.name:
        print(f"the method is called {name}, because {own.name} is no name in Python")
    print(
        f"wrote {name}.py and test_{name}.py\n\n"
        f"test it:   pytest test_{name}.py\n"
        f"audit it:  ungan-dist run digits --methods original,retrain,{name}:{name}\n\n"
        f"Options other than the defaults, such as --{words['OPTION']}.epochs 3, make another run."
    )
    return 0


def _check_name(name: str) -> None:
    """Refuse names that cannot be imported, or that other modules or options have."""
    import dataclasses
    import importlib.util

    from ungan_dist.config.audit import AuditConfig

    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ConfigError(f"a method's name must be a name in Python, such as my_method; got {name!r}")
    if name in {field.name for field in dataclasses.fields(AuditConfig)}:
        raise ConfigError(f"{name} is the name of an option of the run: choose another")
    found = importlib.util.find_spec(name)
    if found is not None and Path(found.origin or "").resolve() != Path(f"{name}.py").resolve():
        raise ConfigError(f"{name} is the name of an installed module ({found.origin}): choose another")
