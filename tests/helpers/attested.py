"""Check, read and sign again the attestation of the fixture ``place``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from in_process import run_command

from ungan_dist import store
from ungan_dist.runs.upkeep import attestation


def verified(place: Path, *options: str | Path, run: Path | None = None) -> subprocess.CompletedProcess[str]:
    run = run or place / "out/run"
    return run_command("verify", run, "--attestation", place / "out/run/attestation.json", *options)


def state_of(found: subprocess.CompletedProcess[str]) -> str:
    return found.stdout.splitlines()[-1]


def read(place: Path) -> dict[str, Any]:
    return json.loads((place / "out/run/attestation.json").read_bytes())


def signed_again(place: Path, **changes: Any) -> None:
    """Change an attestation and sign it, as its author could."""
    content = read(place) | changes
    signature, _ = attestation.sign(attestation.encode(content), place / "key")
    store.write_json(place / "out/run/attestation.json", content | {"signature": signature})


def assert_verdicts_are_printed(found: subprocess.CompletedProcess[str], run: Path) -> None:
    rows = json.loads((run / "table.json").read_bytes())["rows"]
    assert len(rows) > 1
    for row in rows:
        assert f"signed verdict: {row['method']}: {row['verdict']['outcome']}\n" in found.stderr
