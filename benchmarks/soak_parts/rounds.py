"""One round of a soak: an audit of 2,000 units, its command run again until it ends, and what its lives counted."""

from __future__ import annotations

import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from commits import watching
from counted_units import Life, find_miscounts, read_life
from harness import ROOT
from host_cluster import DRIVER, HostCluster
from hosts import SHARED

AUDIT = (
    "ungan-dist run digits --split.train 200 --split.shadow-pool 200 --split.unseen 50 --model.width 4 "
    "--train.function slow_training:fit --shadows.num-models {num_models} --shadows.unit-size 2 "
    "--attack.num-resamples 100 --methods original,retrain --num-seeds 2 --execution.run-name run "
    "--execution.progress json"
)
"""An audit whose models train for PAUSE seconds on a worker and need little of a processor, as on a GPU."""
PAUSE_S = 1
IMPORTS = {"PYTHONPATH": str(ROOT / "tests/helpers")}
"""Environment in which the training function is found."""

REFUSALS = ("ungan-dist: no Ray cluster at ", "ungan-dist: the cluster has room for 0 workers")
"""What a command that ends with 2 prints while the cluster starts again: nothing was computed, so it is no fault."""
EXPECTED_CODES = (0, 3, -signal.SIGKILL, 128 + signal.SIGKILL)
"""Exit codes of the command: done, to be continued, or killed by a fault."""


@dataclass
class Round:
    """An audit on the cluster, with its own output folder."""

    cluster: HostCluster
    name: str
    num_units: int
    """Units of shadow models."""
    exit_codes: list[int] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    num_refused: int = 0
    """Runs of the command that found no cluster, because its head was starting again."""

    def __post_init__(self) -> None:
        self._watch = watching(self.folder / "shadows")
        self.commits = self._watch.__enter__()

    @property
    def folder(self) -> Path:
        """Its output folder."""
        return self.cluster.network.shared / self.name

    def start(self) -> None:
        """Start the command, or start it again."""
        log = self.cluster.folder / f"{self.name}-{len(self.logs)}.log"
        where = f"--cluster {self.cluster.address} --output {SHARED / self.name}"
        command = f"{AUDIT.format(num_models=2 * self.num_units)} {where}"
        self.process = self.cluster.network[DRIVER].start(command, log, **IMPORTS)
        self.logs.append(log)

    def poll(self) -> int | None:
        """Return the exit code if the command has ended, once."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        self.process = None
        if code == 2 and any(word in self.logs[-1].read_text(errors="replace") for word in REFUSALS):
            self.num_refused += 1
        else:
            self.exit_codes.append(code)
        return code

    def read_lives(self) -> list[Life]:
        """Read what every run of the command counted."""
        return [read_life(log.read_text(errors="replace").splitlines()) for log in self.logs]

    def count_uncounted(self) -> int:
        """Return how many results no run of the command counted: it ended between the commit and the count."""
        counted = {title for life in self.read_lives() for title in life.done if ": shadow model" in title}
        return len(self.list_results()) - len(counted)

    def list_results(self) -> list[str]:
        """Return the names of the results of shadow models."""
        return [path.name for path in (self.folder / "shadows").glob("*.json")]

    def check(self, reference: dict[str, bytes], *, is_whole: bool) -> list[str]:
        """Describe everything that is wrong with the results.

        Args:
            reference: Arrays of the undisturbed audit, by name.
            is_whole: Whether every unit must be there; otherwise some may be missing.
        """
        self._watch.__exit__(None, None, None)
        found = find_miscounts(self.read_lives()) + self.commits.check(set(self.list_results()))
        found += [f"the command ended with {code}" for code in self.exit_codes if code not in EXPECTED_CODES]
        arrays = self.cluster.list_results(self.name)
        found += [
            f"{name} has other bits" for name in arrays.keys() & reference.keys() if arrays[name] != reference[name]
        ]
        found += [f"{name} is not in the undisturbed audit" for name in arrays.keys() - reference.keys()]
        if is_whole:
            found += [f"{name} is missing" for name in reference.keys() - arrays.keys()]
            if (number := len(self.list_results())) != self.num_units:
                found.append(f"there are {number} results of shadow models, not {self.num_units}")
        return found


def compute_reference(cluster: HostCluster, num_units: int) -> dict[str, bytes]:
    """Compute the same audit undisturbed, without Ray, by two processes of the driver's host."""
    command = f"{AUDIT.format(num_models=2 * num_units)} --execution.num-processes 2 --output {SHARED / 'reference'}"
    cluster.network[DRIVER].run(command, timeout=3600, **IMPORTS)
    return cluster.list_results("reference")
