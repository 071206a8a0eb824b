"""``ungan-dist runs``: list the runs of an output folder, or remove one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError
from ungan_dist.files import format_bytes
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from rich.table import Table

USAGE = """\
usage: ungan-dist runs [DIR]                 list the runs of an output folder with state and size
       ungan-dist runs [DIR] --remove RUN    remove a run for good: its models, scores and report

DIR defaults to runs. The log-odds of shadow models and the prepared data are shared by all runs, and stay.

states: RUNNING; COMPLETE; PARTIAL (stopped, the same run command continues it); FAILED; CORRUPT; PURGED
"""


def main(arguments: list[str]) -> int:
    """List runs, or remove one."""
    parser = Parser("runs")
    parser.add_argument("output", nargs="?", default="runs")
    parser.add_argument("--remove", metavar="RUN")
    own = parser.parse(arguments)
    if is_url(own.output):
        raise ConfigError(
            f"runs lists folders, not object storage: list {own.output} with the storage's own tools, then use "
            f"ungan-dist status or verify with the URL of one run"
        )
    output = Path(own.output)
    if not output.is_dir():
        raise ConfigError(f"there is no folder {own.output!r} here. Name the output folder: ungan-dist runs DIR")
    return _list(output) if own.remove is None else _remove(output, own.remove)


def _list(output: Path) -> int:
    from rich.console import Console

    rows = [[config.parent.name, *_facts(config.parent)] for config in sorted(output.glob("*/config.json"))]
    shared = [output / name for name in ("shadows", "data") if (output / name).is_dir()]
    rows += [[f"{folder.name}/", "shared", "", "", "", "", format_bytes(_size(folder))] for folder in shared]
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 100)
    console.print(listing(rows, console.width) if rows else f"no runs in {output}")
    return 0


def listing(rows: Sequence[Sequence[str]], width: int) -> Table:
    """Draw the table of runs; a narrow terminal gets fewer columns."""
    from rich.table import Table

    names = ["run", "state", "recipe", "seeds", "shadow models", "rows", "size"]
    widths = {name: max(map(len, [name, *column])) for name, *column in zip(names, *rows, strict=True)}
    for name in ("recipe", "rows", "shadow models", "seeds"):
        if sum(widths.values()) + 2 * (len(widths) - 1) > width:
            del widths[name]
    table = Table(*widths, box=None, pad_edge=False)
    table.columns[0].overflow = "fold"
    for row in rows:
        table.add_row(*(cell for name, cell in zip(names, row, strict=True) if name in widths))
    return table


def _facts(folder: Path) -> list[str]:
    from ungan_dist.runs.record import read_run
    from ungan_dist.runs.status import RunState, current_state

    try:
        config = read_run(folder).config
    except ConfigError:
        return [RunState.CORRUPT, "", "", "", "", format_bytes(_size(folder))]
    counts = [str(config.num_seeds), str(config.shadows.num_models), str(len(config.methods))]
    return [current_state(folder), config.name, *counts, format_bytes(_size(folder))]


def _remove(output: Path, name: str) -> int:
    from ungan_dist import store

    folder = output / name
    if Path(name).name != name or not (folder / "config.json").is_file():
        known = sorted(config.parent.name for config in output.glob("*/config.json"))
        raise ConfigError(f"{name!r} is no run of {output}; there are: {', '.join(known) or 'none'}")
    try:
        with store.run_lock(folder):
            size = _size(folder)
            shutil.rmtree(folder)
    except BlockingIOError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"cannot remove {folder}: {error}") from error
    print(f"removed {folder} ({format_bytes(size)})")
    return 0


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
