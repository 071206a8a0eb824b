"""``ungan-dist attest``: sign a run's verdicts, with the hashes of the files that they rest on."""

from __future__ import annotations

import sys
from pathlib import Path

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError, explain_file_errors
from ungan_dist.files import escape_controls
from ungan_dist.urls import is_url

USAGE = """\
usage: ungan-dist attest RUN --key KEY [--output FILE]
       ungan-dist attest --new-key KEY

Verifies a run. If it is complete, writes a small JSON file, signed with an Ed25519 key. It has the verdicts, the
versions and the commit that computed them, and the hashes of the config, membership, results and all files of the
report: tables, times, page and figures. It does not cover status.json, finished.json, logs, failures and checkpoints,
on which no verdict rests, nor other reports of the run. RUN is a run folder, or RUN/reports/NAME. The file holds no
personal data: no path, no example, and no verdict over fewer than 10 forget examples.

Anyone checks it with `ungan-dist verify RUN --attestation FILE --public-key KEY.pub`, from the run folder alone.

  --key KEY         the private key: PEM without a password, which no other user can read
  --new-key KEY     make a key: KEY is private, KEY.pub is for those who check. `openssl genpkey -algorithm ed25519
                    -out KEY` makes one too
  --output FILE     write this file; defaults to attestation.json beside report.html

The date is that of this machine's clock. The package cryptography is needed: pip install 'ungan-dist[attest]'.

exit codes: 0 signed; 4 signed, but the run is complete only with failures; 3 the run is partial; 1 it is corrupt;
            2 not a run, or the key cannot be used
"""


def main(arguments: list[str]) -> int:
    """Attest a run, or make a key."""
    parser = Parser("attest")
    parser.add_argument("run", metavar="RUN", nargs="?")
    parser.add_argument("--key", metavar="KEY", type=Path)
    parser.add_argument("--new-key", metavar="KEY", type=Path)
    parser.add_argument("--output", metavar="FILE", type=Path)
    own = parser.parse(arguments)
    if own.new_key is not None:
        if own.run or own.key or own.output:
            raise ConfigError("--new-key makes a key and nothing else: give it alone")
        return _make_key(own.new_key)
    if own.run is None or own.key is None:
        raise ConfigError("attest needs a run and --key KEY; ungan-dist attest --new-key KEY makes a key")
    if is_url(own.run):
        raise ConfigError(f"attest reads a run folder on this machine: copy {own.run} with the storage's own tools")
    return _attest(Path(own.run), own.key, own.output)


def _make_key(path: Path) -> int:
    from ungan_dist.runs.upkeep.signing import make_key

    public = make_key(path)
    print(escape_controls(f"private key: {path}\npublic key: {public}"))
    return 0


def _attest(run: Path, key: Path, output: Path | None) -> int:
    from ungan_dist import store
    from ungan_dist.commands.verify import print_lines
    from ungan_dist.runs.status import RunState
    from ungan_dist.runs.upkeep.attestation import ATTESTATION_FILE, make_attestation
    from ungan_dist.runs.upkeep.signing import read_private_key
    from ungan_dist.runs.upkeep.verify import verify
    from ungan_dist.runs.views import read_place, split_place

    record, place = read_place(run)
    folder = split_place(run)[0].resolve()
    read_private_key(key)  # before a verification, which may take minutes
    if store.is_locked(folder):
        raise ConfigError(f"a process is at work on {folder}: wait for it, and attest then")
    found = verify(record, folder, place)
    print_lines(found)
    if found.state not in (RunState.COMPLETE, RunState.WITH_FAILURES):
        print(f"{found.state}: not attested", file=sys.stderr)
        return found.state.exit_code
    content = make_attestation(record, place, found.state, key)
    path = output or folder / place / ATTESTATION_FILE
    with explain_file_errors(path):
        store.write_json(path, content)
    print(escape_controls(f"attestation: {path}\nkey: {content['public_key']}"))
    return found.state.exit_code
