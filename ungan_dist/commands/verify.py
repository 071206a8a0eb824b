"""``ungan-dist verify``: check a run's files and scores."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError
from ungan_dist.files import escape_controls
from ungan_dist.urls import is_url

if TYPE_CHECKING:
    from ungan_dist.runs.upkeep.verify import Verification

USAGE = """\
usage: ungan-dist verify [--quick | --recompute [--model MODULE:FUNCTION | --trust]] RUN
       ungan-dist verify RUN --attestation FILE [--public-key KEY.pub]

RUN is a run folder, or a run's URL in object storage, which is copied to a temporary folder first.
Hash every committed file again, check the membership matrix, and recompute every score from the stored log-odds.
All reports of the run are checked; RUN/reports/NAME checks one report on fewer methods, seeds or shadow models.
Print COMPLETE, COMPLETE WITH FAILURES, PARTIAL, CORRUPT or PURGED. Change nothing.

It finds accidents: damaged, lost, swapped and mixed-up files. It does not find an author who changes results and their
hashes together. No code of the run is executed.

--recompute also evaluates every stored model, and compares its accuracies and log-odds with the recorded ones. For a
model of your own, name its function again with --model, or let --trust call the function that the run names.

--quick checks a run folder in less than a second: that its records are consistent, that every committed file exists
with its size, and the hashes of files up to 1 MiB. It reads no data and recomputes no score.

--attestation compares the run folder with a file of `ungan-dist attest`, and names each file that differs. It needs
neither the data nor other folders, and recomputes no score. Log-odds of shadow models are checked too, if shadows/ is
beside the run. It prints the signed verdicts, and names the files that the attestation does not cover. The record of a
purge is not signed: after a purge, each page and marker must be what a purge makes of the attested one, the tables must
be unchanged, and the files that a purge removes cannot be checked. --public-key names the key that must have signed the
attestation. Without it, the check shows that the files are those that were signed, but not who signed. The line before
the state counts the files that match.

exit codes: 0 complete or purged; 4 complete, but what is listed as failed would fail again; 3 partial, `run`
            continues it; 1 corrupt, `run` computes the listed results again
            (with object storage, only if --execution.cache is empty); 2 not a run, or its data cannot be read
"""


def main(arguments: list[str]) -> int:
    """Verify a run."""
    parser = Parser("verify")
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--model", metavar="MODULE:FUNCTION")
    parser.add_argument("--trust", action="store_true")
    parser.add_argument("--attestation", metavar="FILE", type=Path)
    parser.add_argument("--public-key", metavar="FILE", type=Path)
    own = parser.parse(arguments)
    if sum(map(bool, (own.quick, own.recompute, own.attestation))) > 1:
        raise ConfigError("--quick, --recompute and --attestation exclude each other")
    if own.public_key and not own.attestation:
        raise ConfigError("--public-key belongs to --attestation: nothing else is signed")
    if (own.model or own.trust) and not own.recompute:
        raise ConfigError("--model and --trust belong to --recompute: nothing else needs the model")
    if own.quick:
        return _verify_quickly(own.run)
    if own.attestation:
        return _compare(own.run, own.attestation, own.public_key)
    if not is_url(own.run):
        return _verify(Path(own.run), [], own)

    from ungan_dist.runs.storage.remote import fetch_run
    from ungan_dist.runs.views import split_url

    url, place = split_url(own.run)
    # the working folder may hold intact copies of damaged files
    with tempfile.TemporaryDirectory(prefix="ungan_dist-verify-") as aside:
        _, here, damaged = fetch_run(url, folder=Path(aside), one_by_one=True)
        return _verify(here / place, damaged, own)


def _verify(folder: Path, damaged: list[str], own: argparse.Namespace) -> int:
    from ungan_dist.runs.record import DamagedRecord, read_run
    from ungan_dist.runs.status import RunState
    from ungan_dist.runs.upkeep.recompute import Recomputation
    from ungan_dist.runs.upkeep.verify import verify
    from ungan_dist.runs.views import split_place

    folder, place = split_place(folder)
    try:
        record = read_run(folder)
    except DamagedRecord as error:
        print(escape_controls(f"corrupt: {error}"), file=sys.stderr)
        print(RunState.CORRUPT)
        return RunState.CORRUPT.exit_code
    recomputation = Recomputation(factory=own.model, trust=own.trust) if own.recompute else None
    found = verify(record, folder.resolve(), place, recomputation=recomputation)
    print_lines(dataclasses.replace(found, corrupt=[*damaged, *found.corrupt]))
    state = RunState.CORRUPT if damaged else found.state
    print(state)
    return state.exit_code


def print_lines(found: Verification) -> None:
    """Print what a verification found on standard error, a line for each finding."""
    lines = {"corrupt": found.corrupt, "failed": found.failed, "missing": found.missing, "note": found.notes}
    lines["signed verdict"] = found.signed
    for word, some in lines.items():
        for line in some:
            print(escape_controls(f"{word}: {line}"), file=sys.stderr)


def _compare(run: str, attestation: Path, public_key: Path | None) -> int:
    from ungan_dist.runs.record import CONFIG_FILE, describe_missing_run
    from ungan_dist.runs.upkeep.attestation import check_attestation
    from ungan_dist.runs.views import split_place

    if is_url(run):
        raise ConfigError(f"--attestation takes a run folder, not the URL {run}: copy it with the storage's own tools")
    folder, _ = split_place(Path(run))
    if not (folder / CONFIG_FILE).exists():
        raise ConfigError(describe_missing_run(folder))
    found = check_attestation(folder.resolve(), attestation, key=public_key)
    print_lines(found)
    if found.confirmed:
        print(escape_controls(found.confirmed))
    print(found.state)
    return found.state.exit_code


def _verify_quickly(run: str) -> int:
    from ungan_dist.runs.record import DamagedRecord, read_run
    from ungan_dist.runs.status import RunState
    from ungan_dist.runs.upkeep.quick import verify_quickly
    from ungan_dist.runs.views import split_place

    if is_url(run):
        raise ConfigError(f"--quick takes a run folder, not the URL {run}: verify it without --quick")
    try:
        folder, place = split_place(Path(run))
        state, lines = verify_quickly(read_run(folder), folder.resolve(), place)
    except DamagedRecord as error:
        state, lines = RunState.CORRUPT, [str(error)]
    words = {RunState.CORRUPT: "corrupt", RunState.WITH_FAILURES: "failed"}
    for line in lines:
        print(escape_controls(f"{words.get(state, 'missing')}: {line}"), file=sys.stderr)
    print(state)
    return state.exit_code
