"""Run an audit under a fault of hosts or network, and compare its results with those of an undisturbed one."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from host_cluster import HostCluster
from host_faults import FAULTS, Inject


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an audit did under a fault."""

    fault: str
    exit_code: int
    """Of the audit that the fault hit."""
    continued: bool
    """Whether the same command was run again."""
    seconds: float
    """From the fault to the complete table."""
    equal_bits: bool
    """Whether every array equals that of the undisturbed run, and there are no others."""


def _wait(audit: subprocess.Popen[bytes], timeout: float) -> tuple[int, float]:
    """Wait for an audit; return its exit code and when it ended."""
    return audit.wait(timeout), time.monotonic()


def run_under(
    cluster: HostCluster,
    fault: str,
    undisturbed: dict[str, bytes],
    *,
    faults: Mapping[str, Inject] = FAULTS,
    timeout: float = 240,
) -> Outcome:
    """Run the audit, inject a fault after two results, and run the same command again if it asks for that.

    Args:
        cluster: The cluster, which is whole again afterwards.
        fault: A name of ``faults``.
        undisturbed: Results of the audit without a fault.
        faults: All faults, by name.
        timeout: Seconds for each run of the command.

    Raises:
        AssertionError: The audit ended with neither 0 nor 3, or the second one did not end with 0.
    """
    output = f"fault-{list(faults).index(fault)}"
    audit = cluster.start_audit(output)
    cluster.wait_for_shadows(output, 2, audit, timeout=timeout)
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as waiting:
        ended = waiting.submit(_wait, audit, timeout)
        with contextmanager(faults[fault])(cluster, output):
            code, end = ended.result()
    took = end - begun
    log = cluster.log_of(output)
    assert code in (0, 3), f"{fault}: exit code {code}\n{log.read_text()}"
    if code:
        again = time.monotonic()
        second = cluster.start_audit(output).wait(timeout)
        took += time.monotonic() - again
        assert not second, f"{fault}, second run: exit code {second}\n{log.read_text()}"
    found = cluster.list_results(output)
    return Outcome(fault=fault, exit_code=code, continued=bool(code), seconds=took, equal_bits=found == undisturbed)


def as_row(outcome: Outcome) -> dict[str, object]:
    """Return an outcome for a results file."""
    return dataclasses.asdict(outcome) | {"seconds": round(outcome.seconds, 1)}
