"""Run an audit under a fault of hosts or network, and compare its results with those of an undisturbed one."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from counted_units import find_miscounts, read_life
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
    late: int | None
    """Results of shadow models that were written a second time; None in object storage, where nobody watches."""
    saw_the_end: bool
    """Whether the audit was still at work when the fault was over, or the fault was to last until its end."""
    wrong: list[str]
    """Units that were lost or counted twice."""


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
    with cluster.watching(output) as commits:
        code, seconds, saw_the_end = _run_under(cluster, faults[fault], output, timeout)
    logs = [cluster.log_of(output).read_text()]
    assert code in (0, 3), f"{fault}: exit code {code}\n{logs[0]}"
    if code:
        again = time.monotonic()
        second = cluster.start_audit(output).wait(timeout)
        seconds += time.monotonic() - again
        logs.append(cluster.log_of(output).read_text()[len(logs[0]) :])
        assert not second, f"{fault}, second run: exit code {second}\n{logs[1]}"
    wrong = find_miscounts(read_life(log.splitlines()) for log in logs)
    if commits is not None:
        wrong += [f"{name} was removed" for name in commits.removed]
    return Outcome(
        fault=fault,
        exit_code=code,
        continued=bool(code),
        seconds=seconds,
        equal_bits=cluster.list_results(output) == undisturbed,
        late=None if commits is None else commits.num_repeated,
        saw_the_end=saw_the_end,
        wrong=wrong,
    )


def _run_under(cluster: HostCluster, inject: Inject, output: str, timeout: float) -> tuple[int, float, bool]:
    """Return an audit's exit code under a fault, the seconds from there to its end, and if it saw the fault's end."""
    audit = cluster.start_audit(output)
    cluster.wait_for_shadows(output, 2, audit, timeout=timeout)
    begun = time.monotonic()
    with ThreadPoolExecutor(1) as waiting:
        ended = waiting.submit(_wait, audit, timeout)
        with contextmanager(inject)(cluster, output):
            saw_the_end = not ended.done()
            code, end = ended.result()
    return code, end - begun, saw_the_end


def as_row(outcome: Outcome) -> dict[str, object]:
    """Return an outcome for a results file."""
    return dataclasses.asdict(outcome) | {"seconds": round(outcome.seconds, 1)}
