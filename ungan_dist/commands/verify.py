"""``ungan-dist verify``: is a run what it says it is?"""

from __future__ import annotations

import sys
from pathlib import Path

from ungan_dist.errors import ConfigError, Unfinished

USAGE = """\
usage: ungan-dist verify RUN

Re-hashes everything that a run has committed, checks the balance of its membership matrix, recomputes every score from
the stored log-odds, and says COMPLETE, PARTIAL, CORRUPT or PURGED. Changes nothing.

exit codes: 0 complete or purged; 3 partial, `run` continues it; 1 corrupt, `run` computes what is named anew;
            2 not a run folder, or its data cannot be read
"""


def main(arguments: list[str]) -> int:
    """Verifies a run folder."""
    match arguments:
        case ["-h" | "--help"]:
            print(USAGE, end="")
            return 0
        case [folder] if not folder.startswith("-"):
            pass
        case _:
            raise ConfigError(f"verify takes one run folder, got {' '.join(arguments)!r}")

    from ungan_dist.runs import read_run

    record = read_run(Path(folder))

    from ungan_dist.verify import verify

    found = verify(record, Path(folder).resolve())
    for line in found.corrupt:
        print(f"corrupt: {line}", file=sys.stderr)
    for line in found.missing:
        print(f"missing: {line}", file=sys.stderr)
    print(found.state)
    return {"COMPLETE": 0, "PURGED": 0, "PARTIAL": Unfinished.exit_code, "CORRUPT": 1}[found.state]
