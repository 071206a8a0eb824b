"""The command line: run, report, recipes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from ungan_dist.errors import ConfigError, Terminated, Unfinished

if TYPE_CHECKING:
    from ungan_dist.config import AuditConfig
    from ungan_dist.evidence import Report

_HELP = """\
ungan-dist: make a trained model forget, and measure whether an attack can still tell.

usage:
  ungan-dist run RECIPE [OPTIONS]   train, unlearn, attack, report; run again to continue
  ungan-dist report RUN             write the report of a run folder anew; trains nothing
  ungan-dist recipes                what can be run
  ungan-dist run RECIPE --help      every option of a recipe, with its default

start here:
  ungan-dist run digits             a whole audit in minutes, no download

examples:
  ungan-dist run digits --shadows.num-models 128       extends the run of before by 64 shadow models
  ungan-dist run digits --methods original,retrain,ungan --output results
  ungan-dist run cifar10-small --source.path FOLDER    CIFAR-10 as Parquet; or set CIFAR10_PARQUET

exit codes: 0 complete; 3 partial or interrupted, run the same command again;
            2 wrong config or input; 1 an error of ours
"""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(_dispatch(given))
    except ConfigError as error:
        print(f"ungan-dist: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Unfinished as error:
        print(f"ungan-dist: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as error:
        word = "terminated" if isinstance(error, Terminated) else "interrupted"
        print(f"ungan-dist: {word}; what was committed is kept, run the same command to continue", file=sys.stderr)
        sys.exit(Unfinished.exit_code)
    except BrokenPipeError:
        # whoever read our output has gone: nothing is left to be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(_HELP, end="")
            return 0
        case ["--version"]:
            from ungan_dist import __version__

            print(__version__)
            return 0
        case ["recipes"]:
            return _recipes()
        case ["run", *rest]:
            return _run(rest)
        case ["report", folder] if not folder.startswith("-"):
            return _report(folder)
        case _:
            raise ConfigError(f"unknown command {' '.join(arguments)!r}; known: run, report, recipes (see --help)")


def _recipes() -> int:
    from ungan_dist.recipes import RECIPES

    for name, recipe in RECIPES.items():
        print(f"{name:<18} {(recipe.__doc__ or '').strip().splitlines()[0]}")
    return 0


def _run(arguments: list[str]) -> int:
    from ungan_dist.recipes import RECIPES

    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(f"usage: ungan-dist run RECIPE [OPTIONS]\n\nrecipes: {', '.join(RECIPES)}\noptions: run RECIPE --help")
        return 0
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    config = parse_config(RECIPES[name](), arguments[1:], program=f"ungan-dist run {name}")
    signal.signal(signal.SIGTERM, _terminate)

    from ungan_dist.pipeline import audit
    from ungan_dist.progress import progress
    from ungan_dist.runs import folder_of

    with progress(config.execution.progress) as tell:
        report = audit(config, tell=tell)
    return _print(report, folder_of(config, report.run_hash))


def _report(folder: str) -> int:
    from ungan_dist.runs import read_run

    record = read_run(Path(folder))

    from ungan_dist.pipeline import report_of
    from ungan_dist.progress import progress

    with progress("auto") as tell:
        report, path = report_of(record, tell=tell)
    return _print(report, path)


def parse_config(default: AuditConfig, arguments: list[str], *, program: str) -> AuditConfig:
    """A recipe's config with the command line's changes.

    Raises:
        ConfigError: a value out of range. Unknown options and values that are no choice end the process with code 2.
    """
    import tyro

    from ungan_dist.config import AuditConfig, Method

    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def _(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        if info.type != tuple[Method, ...]:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="NAME,NAME,…",
            instance_from_str=lambda given: _method_names(given[0]),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(value)],
        )

    try:
        return tyro.cli(
            AuditConfig,
            default=default,
            args=arguments,
            prog=program,
            description=f"Runs the recipe {default.name!r}; the defaults below are the recipe's.",
            registry=registry,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _method_names(text: str) -> tuple[str, ...]:
    from ungan_dist.config import Method

    names = tuple(text.split(","))
    unknown = [name for name in names if name not in get_args(Method)]
    if unknown:
        raise ValueError(f"unknown method {unknown[0]!r}; known: {', '.join(get_args(Method))}")
    return names


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _print(report: Report, folder: Path) -> int:
    from rich.console import Console

    from ungan_dist.report.terminal import WIDTH, table

    console = Console()
    # a narrow window or a pipe wraps lines rather than losing the verdicts
    console.width = max(console.width, WIDTH)
    console.print(table(report))
    print(f"report: {folder / 'report.html'}")
    if report.status == "COMPLETE":
        return 0
    print("partial: run the same command again. Missing:", *report.missing, sep="\n  ", file=sys.stderr)
    return Unfinished.exit_code
