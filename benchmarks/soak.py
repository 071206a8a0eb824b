"""Run audits of 2,000 units on four hosts under random faults, and count what was lost, repeated or leaked.

It writes soak.json after each fault. Hosts are namespaces of this machine, so this needs root and
Linux: see tests/helpers/hosts.py. An audit that is complete is followed by the next. In the second half no fault ends
the command or hits the last host, so that memory is watched over long lives of processes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import RESULTS, ROOT, write
from reproduce import parse_seconds

sys.path.append(str(ROOT / "tests/helpers"))
from host_cluster import HEAD, HostCluster
from soak_parts.faults import FAULTS, Draw, draw_fault, kill_process
from soak_parts.processes import fit_slope, judge, list_processes, measure
from soak_parts.rounds import IMPORTS, PAUSE_S, Round, compute_reference

TICK_S = 5.0
PUBLISHED_S = 3600.0
"""Duration from which a soak replaces the published one."""
LIMITS_PER_HOUR = {"rss_mb": 20.0, "fds": 10.0, "threads": 10.0}
"""Growth of a process that counts as flat."""
WORKERS = ("north", "east", "south", "west")


class Soak:
    """The state of a soak: its rows, its round, and a series for each process that it has seen."""

    def __init__(self, cluster: HostCluster, *, seed: int, num_units: int, results: Path) -> None:
        self.cluster, self.num_units, self.results = cluster, num_units, results
        self.draw = random.Random(seed)
        self.rows: list[dict[str, object]] = []
        self.begun = time.monotonic()
        self.series: dict[tuple[str, str, int, int], list[tuple[float, dict[str, float]]]] = defaultdict(list)
        self.facts: dict[str, object] = {"seed": seed, "num_units": num_units, "hosts": len(WORKERS)}
        self.reference: dict[str, bytes] = {}
        self.missing_nodes: set[str] = set()
        self.round = Round(cluster, "round-0", num_units)
        self.next_fault: Draw | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    def add(self, kind: str, **values: object) -> None:
        """Append a row and write the file."""
        row = {"kind": kind, "at_s": round(self.seconds), **values}
        print(row, flush=True)
        self.rows.append(row)
        write("soak", self.rows, self.results, **self.facts, seconds=round(self.seconds), growth=self.summarise())

    def run(self, duration_s: float) -> None:
        """Run rounds under faults until the time is over, then check the unfinished round."""
        self.reference = compute_reference(self.cluster, self.num_units)
        self.begun = time.monotonic()
        self.round.start()
        self.next_fault = self.draw_next(duration_s)
        due = self.next_fault.wait_s
        while self.seconds < duration_s:
            time.sleep(TICK_S)
            self.heal()
            self.sample()
            self.follow()
            if self.seconds >= due:
                self.inject(self.next_fault)
                self.next_fault = self.draw_next(duration_s)
                due = self.seconds + self.next_fault.wait_s
        if self.round.process is not None:
            kill_process(self.cluster, "driver", "driver")
            self.round.exit_codes.append(self.round.process.wait(60))
        self.close_round(is_whole=False)

    def draw_next(self, duration_s: float) -> Draw:
        """Draw the next fault; in the second half of the time, one that leaves the command and the last host alone."""
        if self.seconds < duration_s / 2:
            return draw_fault(self.draw, WORKERS)
        return draw_fault(self.draw, WORKERS[:-1], spares_command=True)

    def inject(self, drawn: Draw) -> None:
        """Inject a fault, and record how far the round was."""
        before = len(self.round.list_results())
        begun = time.monotonic()
        with self.recording_errors(drawn.fault):
            FAULTS[drawn.fault][0](self.cluster, drawn.host)
            self.add(
                "fault",
                fault=drawn.fault,
                host=drawn.host,
                seconds=round(time.monotonic() - begun, 1),
                round=self.round.name,
                units_before=before,
                load=round(os.getloadavg()[0], 1),
            )

    def sample(self) -> None:
        """Measure the driver and the workers."""
        # scoring and report, which follow, take memory once
        kinds = {"worker", "driver"} if len(self.round.list_results()) < self.num_units else {"worker"}
        for process in list_processes(self.init_pids()):
            if process.kind in kinds and (found := measure(process)):
                life = (process.kind, process.host, process.pid, process.started)
                self.series[life].append((self.seconds, found))

    def heal(self) -> None:
        """Boot hosts that a failed fault left off, and start Ray where it was missing at the last look too."""
        for name in (HEAD, "driver", *self.cluster.workers):
            if not self.cluster.network[name].is_on:
                self.cluster.network.boot(name)
        running = {process.host for process in list_processes(self.init_pids()) if process.kind == "raylet"}
        missing = set(self.init_pids()) - running
        for name in sorted(missing & self.missing_nodes):
            with self.recording_errors(f"the start of Ray on {name}"):
                self.cluster.start_ray(name)
                missing.discard(name)
        self.missing_nodes = missing

    def follow(self) -> None:
        """Note how the command ended; after 0, check the round. Start it again once Ray is on every host."""
        code = self.round.poll()
        if code is None:
            if self.round.process is None and not self.missing_nodes:
                self.round.start()
            return
        if code == 0:
            self.close_round(is_whole=True)
            number = int(self.round.name.rsplit("-", 1)[1]) + 1
            self.round = Round(self.cluster, f"round-{number}", self.num_units)
        else:
            tail = self.round.logs[-1].read_text(errors="replace").splitlines()[-5:]
            self.add("exit", round=self.round.name, exit_code=code, last_lines=[_shorten(line)[:400] for line in tail])

    def close_round(self, *, is_whole: bool) -> None:
        """Check a round, and record what was wrong."""
        wrong = self.round.check(self.reference, is_whole=is_whole)
        lives = self.round.read_lives()
        self.add(
            "round",
            round=self.round.name,
            whole=is_whole,
            units=len(self.round.list_results()),
            counted=sum(sum(life.done.values()) for life in lives),
            uncounted=self.round.count_uncounted(),
            # a run that ended early left units for the next one
            failed=lives[-1].failed if is_whole else [],
            runs_of_the_command=len(self.round.logs),
            exit_codes=self.round.exit_codes,
            refused=self.round.num_refused,
            written_again=self.round.commits.num_repeated,
            wrong=wrong[:20],
            num_wrong=len(wrong),
        )

    def summarise(self) -> list[dict[str, object]]:
        """Return the growth of each kind of process."""
        found: list[dict[str, object]] = []
        for kind in ("driver", "worker"):
            lives = [rows for (one, *_), rows in self.series.items() if one == kind]
            for name, limit in LIMITS_PER_HOUR.items():
                slope = fit_slope(
                    [np.array([(at - rows[0][0], values[name]) for at, values in rows]) for rows in lives]
                )
                values = [row[1][name] for rows in lives for row in rows]
                found.append(
                    {
                        "process": kind,
                        "value": name,
                        "median": float(np.median(values)) if values else None,
                        "most": max(values, default=None),
                        "per_hour": slope and slope.per_hour,
                        "interval": slope and slope.interval,
                        "lives": slope.num_lives if slope else 0,
                        "hours": slope.hours if slope else 0.0,
                        "limit_per_hour": limit,
                        "verdict": judge(slope, limit),
                    }
                )
        return found

    def init_pids(self) -> dict[str, int]:
        """Return process 1 of every host."""
        names = (HEAD, "driver", *self.cluster.workers)
        return {name: self.cluster.network[name].pid for name in names}

    @contextlib.contextmanager
    def recording_errors(self, what: str) -> Iterator[None]:
        """Record a failure of the surroundings, such as Ray that does not start, and go on."""
        try:
            yield
        except (AssertionError, OSError, IndexError, subprocess.SubprocessError) as error:
            self.add("surroundings", what=what, error=_shorten(str(error))[-2000:])


def _shorten(text: str) -> str:
    """Leave the path of this checkout out of a message."""
    return text.replace(f"{ROOT}/", "")


def main(arguments: list[str]) -> None:
    """Run a soak; exit with 1 if anything was lost, counted twice or leaked, or if it was too short to tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=parse_seconds, default=7200.0, help="such as 90min or 2h (the default)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--units", type=int, default=2000, help="units of shadow models of each audit")
    parser.add_argument(
        "--results",
        type=Path,
        help="folder of soak.json; benchmarks/results by default, or unpublished in it for less than an hour",
    )
    parser.add_argument("--work", type=Path, help="folder for hosts and logs; defaults to a temporary one")
    asked = parser.parse_args(arguments)
    results = asked.results or (RESULTS if asked.duration >= PUBLISHED_S else RESULTS / "unpublished")
    with contextlib.ExitStack() as stack:
        folder = asked.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        variables = {**IMPORTS, "PAUSE": str(PAUSE_S)}
        cluster = stack.enter_context(HostCluster(folder, WORKERS, ray_variables=variables))
        soak = Soak(cluster, seed=asked.seed, num_units=asked.units, results=results)
        soak.run(asked.duration)
    growth = [row for row in soak.summarise() if row["verdict"] != "flat"]
    growing = [f"{row['value']} of a {row['process']}: {row['verdict']}" for row in growth]
    if growing:
        print("; ".join(growing), file=sys.stderr)
    if growing or any(row.get("num_wrong") for row in soak.rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
