"""The command line: finds the command, and turns what it raises into a message and an exit code."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ungan_dist.errors import ConfigError, Terminated, Unfinished

_HELP = """\
ungan-dist: make a trained model forget, and measure whether an attack can still tell.

usage:
  ungan-dist run RECIPE [OPTIONS]      train, unlearn, attack, report; run again to continue
  ungan-dist run RECIPE --help         every option of a recipe, with its default
  ungan-dist plan RECIPE [OPTIONS]     what that would cost here, and what it could show
  ungan-dist recipes                   what can be run
  ungan-dist run custom …              your own model, data and forget list
  ungan-dist audit --unlearned FILE …  judge a model that was unlearned elsewhere
  ungan-dist report RUN                write the report of a run folder anew; trains nothing
  ungan-dist verify RUN                re-hash a run and recompute its scores: COMPLETE, PARTIAL or CORRUPT
  ungan-dist doctor                    what a run needs, tried on this machine; --cluster ADDRESS: on every node
  ungan-dist runs [DIR]                list the runs of a folder; --remove RUN removes one
  ungan-dist prepare RECIPE            write the data as one file for FFCV; --rebuild replaces a damaged one
  ungan-dist purge RUN                 remove what a run folder holds of the forgotten people
  ungan-dist targets RECIPE [OPTIONS]  the originals and the unlearning alone; by several processes under torchrun
  ungan-dist submit RECIPE --address URL   run on a Ray cluster; then status ID, cancel ID
  ungan-dist manifest kuberay RECIPE --gpus N --image NAME:TAG   a Kubernetes manifest
  ungan-dist COMMAND --help            more on a command

start here:
  ungan-dist run digits             a whole audit in minutes, no download

examples:
  ungan-dist run digits --shadows.num-models 128       extends the run of before by 64 shadow models
  ungan-dist run digits --methods original,retrain,ungan --output results
  ungan-dist run digits --cluster auto                 on this machine's Ray cluster, or one that it starts
  ungan-dist run cifar10-small --source.path FOLDER    CIFAR-10 as Parquet; or set CIFAR10_PARQUET

exit codes: 0 complete; 3 partial or interrupted, run the same command again;
            2 wrong config or input; 1 an error of ours
"""


def script() -> NoReturn:
    """The whole process of a command."""
    try:
        main()
    finally:
        # at the end Python looks for garbage in all that was imported, which takes a second and frees nothing
        gc.freeze()


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


COMMANDS = {
    "run": "ungan_dist.commands.run",
    "audit": "ungan_dist.commands.audit",
    "plan": "ungan_dist.commands.plan",
    "report": "ungan_dist.commands.report",
    "verify": "ungan_dist.commands.verify",
    "doctor": "ungan_dist.commands.doctor",
    "runs": "ungan_dist.commands.runs",
    "prepare": "ungan_dist.commands.prepare",
    "recipes": "ungan_dist.commands.recipes",
    "targets": "ungan_dist.commands.targets",
    "submit": "ungan_dist.commands.submit",
    "status": "ungan_dist.commands.status",
    "cancel": "ungan_dist.commands.cancel",
    "manifest": "ungan_dist.commands.manifest",
    "purge": "ungan_dist.commands.purge",
}
"""Imported when called, so that help is instant."""


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case [] | ["-h" | "--help", *_]:
            print(_HELP, end="")
            return 0
        case ["--version"]:
            from ungan_dist import __version__

            print(__version__)
            return 0
        case [command, *rest] if command in COMMANDS:
            return importlib.import_module(COMMANDS[command]).main(rest)
        case _:
            raise ConfigError(
                f"unknown command {' '.join(arguments)!r}; known: {', '.join(COMMANDS)} (see ungan-dist --help)"
            )
