"""``ungan-dist runs``: list the runs of an output folder, or remove one."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ungan_dist.commands.parser import Parser
from ungan_dist.config.methods import is_method
from ungan_dist.errors import ConfigError
from ungan_dist.files import escape_controls, format_bytes
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from rich.table import Table

USAGE = """\
usage: ungan-dist runs [DIR] [--json]               list the runs of an output folder
       ungan-dist runs [DIR] --remove RUN [--yes]   remove a run for good: its models, scores and report

DIR defaults to runs. The list has the state, date, model, numbers of shadow models, seeds and rows, verdicts and size
of each run; a narrow terminal gets fewer columns. Below a run follow its reports on fewer methods, seeds or shadow
models. The log-odds of shadow models and the prepared data are shared by all runs, and stay.

  --json          print the list as JSON
  --remove RUN    remove this run, after a question on the terminal
  --yes           remove it without the question

states: RUNNING; COMPLETE; COMPLETE WITH FAILURES (what failed would fail again); PARTIAL (stopped, the same run command
        continues it); REFUSED; FAILED; CORRUPT; PURGED

examples:
  ungan-dist runs
  ungan-dist runs results --remove digits-0123abcd

exit codes: 0 success; 2 no such folder or run, a run that is active, or no answer to the question
"""


def main(arguments: list[str]) -> int:
    """List runs, or remove one."""
    parser = Parser("runs")
    parser.add_argument("output", nargs="?", default="runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--remove", metavar="RUN")
    parser.add_argument("--yes", action="store_true")
    own = parser.parse(arguments)
    if is_url(own.output):
        raise ConfigError(
            f"runs lists folders, not object storage: list {own.output} with the storage's own tools, then use "
            f"ungan-dist status or verify with the URL of one run"
        )
    output = Path(own.output)
    if not output.is_dir():
        raise ConfigError(f"there is no folder {own.output!r} here. Name the output folder: ungan-dist runs DIR")
    if own.remove is not None:
        return _remove(output, own.remove, is_confirmed=own.yes)
    return _list(output, as_json=own.json)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """The line of a run, or of a view, in the list."""

    run: str
    state: str
    bytes: int
    date: str | None = None
    """Time of the last change of state, in ISO 8601."""
    recipe: str | None = None
    model: str | None = None
    """Name of the architecture, or ``module:function`` of the user's own."""
    shadows: int | None = None
    seeds: int | None = None
    rows: list[str] = field(default_factory=list)
    """Methods."""
    verdicts: dict[str, str] = field(default_factory=dict)
    """Outcome by method, from the run's last report."""

    def cells(self) -> list[str]:
        """Return the texts of the columns."""
        date = "" if self.date is None else f"{datetime.fromisoformat(self.date).astimezone():%Y-%m-%d %H:%M}"
        counts = Counter(outcome for method, outcome in self.verdicts.items() if is_method(method))
        verdicts = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
        numbers = ("" if number is None else str(number) for number in (self.shadows, self.seeds))
        rows = str(len(self.rows)) if self.rows else ""
        run, view, place = self.run.partition("/")
        return [
            f"  {place}" if view else run,
            self.state,
            date,
            self.model or "",
            *numbers,
            rows,
            verdicts,
            format_bytes(self.bytes),
        ]


COLUMNS = ("run", "state", "date", "model", "shadows", "seeds", "rows", "verdicts", "size")
_DROPPED_FIRST = ("model", "seeds", "rows", "shadows", "date")
"""Columns to drop on a narrow terminal, in this order."""
_FOLDED = 24
"""Width to which verdicts are folded before a column is dropped."""


def _list(output: Path, *, as_json: bool) -> int:
    runs = [facts for config in sorted(output.glob("*/config.json")) for facts in _list_reports(config.parent)]
    shared = {name: _size(output / name) for name in ("shadows", "data") if (output / name).is_dir()}
    if as_json:
        print(json.dumps({"output": str(output), "runs": [asdict(run) for run in runs], "shared": shared}, indent=2))
        return 0
    from rich.console import Console

    rows = [run.cells() for run in runs]
    rows += [[f"{name}/", "shared", *[""] * 6, format_bytes(size)] for name, size in shared.items()]
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, 120)
    console.print(listing(rows, console.width) if rows else f"no runs in {output}", markup=False, highlight=False)
    return 0


def listing(rows: Sequence[Sequence[str]], width: int) -> Table:
    """Draw the table of runs; a narrow terminal gets fewer columns."""
    from rich.table import Table
    from rich.text import Text

    widths = {name: max(map(len, [name, *column])) for name, *column in zip(COLUMNS, *rows, strict=True)}
    widths["verdicts"] = min(widths["verdicts"], _FOLDED)
    for name in _DROPPED_FIRST:
        if sum(widths.values()) + 2 * (len(widths) - 1) > width:
            del widths[name]
    table = Table(box=None, pad_edge=False)
    for name in widths:
        numeric = name in ("shadows", "seeds", "rows", "size")
        table.add_column(
            name, justify="right" if numeric else "left", no_wrap=name not in ("run", "verdicts"), overflow="fold"
        )
    for row in rows:
        cells = (Text(escape_controls(cell)) for name, cell in zip(COLUMNS, row, strict=True) if name in widths)
        table.add_row(*cells)
    return table


def _list_reports(run: Path) -> Iterator[RunFacts]:
    from ungan_dist.runs.views import list_views

    yield _read_facts(run)
    for place in list_views(run):
        yield _read_facts(run, place)


def _read_facts(run: Path, place: str = "") -> RunFacts:
    """Read the line of a run's own report, or of a view."""
    from ungan_dist import store
    from ungan_dist.runs.record import read_run
    from ungan_dist.runs.status import RunState, current_state, read_status
    from ungan_dist.runs.views import narrow

    folder = run / place
    name, size = "/".join(filter(None, (run.name, place))), _size(folder)
    try:
        config = narrow(read_run(run), run, place).config
    except (ConfigError, store.CorruptResult):
        return RunFacts(run=name, state=RunState.CORRUPT, bytes=size)
    status = read_status(folder)
    changed = status.time if status is not None else (run / "config.json").stat().st_mtime
    return RunFacts(
        run=name,
        state=current_state(folder),
        bytes=size,
        date=datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds"),
        recipe=config.name,
        model=config.model.factory or config.model.name,
        shadows=config.shadows.num_models,
        seeds=config.num_seeds,
        rows=list(config.methods),
        verdicts=_read_verdicts(folder),
    )


def _read_verdicts(folder: Path) -> dict[str, str]:
    from ungan_dist import store

    try:
        rows = store.read_json(folder / "table.json")["rows"]
        return {str(row["method"]): _read_verdict(row) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):  # no report yet, or a damaged one
        return {}


def _read_verdict(row: dict[str, Any]) -> str:
    from ungan_dist.attack.summary import HIDDEN_LEAK

    ulira = row.get("ulira")
    leaks = isinstance(ulira, dict) and bool(ulira["hidden_leak"])
    return str(row["verdict"]["outcome"]) + (f", {HIDDEN_LEAK}" if leaks else "")


def _remove(output: Path, name: str, *, is_confirmed: bool) -> int:
    from ungan_dist import store

    folder = output / name
    if Path(name).name != name or not (folder / "config.json").is_file():
        known = sorted(config.parent.name for config in output.glob("*/config.json"))
        raise ConfigError(f"{name!r} is no run of {output}; there are: {', '.join(known) or 'none'}")
    size = _size(folder)
    try:
        # before the lock, because a locked run counts as running
        description = _describe(folder)
        with store.run_lock(folder):
            if not is_confirmed and not _confirm(
                description, shlex.join(["ungan-dist", "runs", str(output), "--remove", name, "--yes"])
            ):
                print(f"kept {folder}")
                return 0
            shutil.rmtree(folder)
    except BlockingIOError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise ConfigError(f"cannot remove {folder}: {error}") from error
    print(f"removed {escape_controls(str(folder))} ({format_bytes(size)})")
    return 0


def _describe(folder: Path) -> str:
    facts = _read_facts(folder)
    models = len([*folder.glob("models/*/*.safetensors")])
    parts = [facts.state, f"{len(facts.rows)} rows", f"{models} models", "its scores and report"]
    return f"{escape_controls(str(folder))} ({', '.join(parts)}, {format_bytes(facts.bytes)})"


def _confirm(what: str, command: str) -> bool:
    """Ask on the terminal.

    Raises:
        ConfigError: There is no terminal to ask on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfigError(f"this removes {what} for good; to confirm without a terminal, add --yes: {command}")
    print(f"Remove {what} for good? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
