"""The command line: run a command, and turn its errors into messages and exit codes."""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from ungan_dist.commands.streams import prepare_streams
from ungan_dist.errors import ConfigError, Terminated, Unfinished, suggest
from ungan_dist.files import escape_controls
from ungan_dist.store import CorruptResult
from ungan_dist.urls import refuse_secret_words

_HELP = """\
ungan-dist: make a trained model forget some of its data, and measure what an attack can still detect.

usage:
  ungan-dist run RECIPE [OPTIONS]      train, unlearn, attack and report; the same command continues
  ungan-dist run RECIPE --help         list the options of a recipe, with their defaults
  ungan-dist run custom …              audit your own model, data and forget list
  ungan-dist audit --unlearned FILE …  audit a model that was unlearned elsewhere
  ungan-dist plan RECIPE [OPTIONS]     estimate the cost of a run, and what it can show
  ungan-dist recipes                   list the recipes
  ungan-dist new method NAME           write a method of your own, with its test

  ungan-dist runs [DIR]                list the runs of a folder; --remove RUN removes one
  ungan-dist report RUN                write the report of a run again; trains nothing
  ungan-dist export RUN                write the table as CSV, LaTeX, Markdown or Parquet; --records: by example
  ungan-dist compare RUN RUN …         print one table over several runs, and draw their gaps
  ungan-dist verify RUN                check a run's hashes and recompute its scores; --quick checks files only
  ungan-dist attest RUN --key KEY      sign a run's verdicts and files, for others to verify
  ungan-dist status RUN                print the state of a run
  ungan-dist purge RUN                 remove a run's data about the forget set
  ungan-dist prepare RECIPE            write the data as one file for FFCV

  ungan-dist doctor                    check that this machine, or a cluster, can do a run
  ungan-dist bench                     measure this version on this machine, from a checkout
  ungan-dist targets RECIPE [OPTIONS]  train the originals and unlearn, under torchrun by several processes
  ungan-dist submit RECIPE --output DIR [--address URL]   run as a job of a Ray cluster
  ungan-dist status ID                 print the state of a job; --follow prints its log
  ungan-dist cancel ID                 stop a job; submit again to continue its run
  ungan-dist manifest kuberay RECIPE --gpus N --image NAME:TAG   print a Kubernetes manifest
  ungan-dist tls FOLDER --host NAME=ADDRESS   make the certificates for Ray's TLS between hosts

  ungan-dist COMMAND --help            explain a command

start here:
  ungan-dist run digits                a whole audit in minutes, without a download

examples:
  ungan-dist run digits --shadows.num-models 128       add 64 shadow models to the run above
  ungan-dist run digits --methods original,retrain,ungan --output results
  ungan-dist run digits --cluster auto                 use your Ray cluster on this machine, or start one
  ungan-dist run cifar10-small --source.path FOLDER    read CIFAR-10 as Parquet; or set CIFAR10_PARQUET

exit codes: 0 complete; 3 partial or interrupted, run the same command again;
            4 complete, but what is listed as failed would fail again;
            2 wrong config or input; 1 internal error
"""


def script() -> NoReturn:
    """Run the command line as a process."""
    prepare_streams()
    try:
        main()
    except SystemExit as ended:
        if (contact := sys.modules.get("ungan_dist.cluster.contact")) and isinstance(ended.code, int):
            contact.end_without_ray(ended.code)
        raise
    finally:
        # garbage collection at exit takes a second and frees nothing
        gc.freeze()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        refuse_secret_words(given)
        sys.exit(_dispatch(given))
    except ConfigError as error:
        print(f"ungan-dist: {escape_controls(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except CorruptResult as error:
        print(f"ungan-dist: {escape_controls(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Unfinished as error:
        print(f"ungan-dist: {escape_controls(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as error:
        word = "terminated" if isinstance(error, Terminated) else "interrupted"
        print(f"ungan-dist: {word}; committed results are kept, run the same command to continue", file=sys.stderr)
        sys.exit(Unfinished.exit_code)
    except BrokenPipeError:
        # the reader of the output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


COMMANDS = {
    "run": "ungan_dist.commands.run",
    "audit": "ungan_dist.commands.audit",
    "plan": "ungan_dist.commands.plan",
    "report": "ungan_dist.commands.report",
    "export": "ungan_dist.commands.export",
    "compare": "ungan_dist.commands.compare",
    "verify": "ungan_dist.commands.verify",
    "attest": "ungan_dist.commands.attest",
    "doctor": "ungan_dist.commands.doctor",
    "runs": "ungan_dist.commands.runs",
    "prepare": "ungan_dist.commands.prepare",
    "recipes": "ungan_dist.commands.recipes",
    "new": "ungan_dist.commands.new",
    "targets": "ungan_dist.commands.targets",
    "submit": "ungan_dist.commands.submit",
    "status": "ungan_dist.commands.status",
    "cancel": "ungan_dist.commands.cancel",
    "manifest": "ungan_dist.commands.manifest",
    "tls": "ungan_dist.commands.tls",
    "purge": "ungan_dist.commands.purge",
    "bench": "ungan_dist.commands.bench",
}
"""Modules of the commands, imported when called. Each has ``USAGE``, its help, and ``main``."""
_LIST_OPTIONS = ("run", "targets", "prepare", "submit")
"""Commands whose help on a recipe lists the recipe's options."""


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
            module = importlib.import_module(COMMANDS[command])
            if not {"-h", "--help"} & set(rest):
                return module.main(rest)
            if command in _LIST_OPTIONS and not rest[0].startswith("-"):
                # the methods of the user add options of their own
                methods = [word for pair in itertools.pairwise(rest) if pair[0] == "--methods" for word in pair]
                return module.main([rest[0], *methods, *(w for w in rest if w.startswith("--methods=")), "--help"])
            print(module.USAGE, end="")
            return 0
        case _:
            raise ConfigError(
                f"unknown command {arguments[0]!r}{suggest(arguments[0], COMMANDS)}; known: {', '.join(COMMANDS)} "
                f"(see ungan-dist --help)"
            )
