"""Slurm on hosts of its own: a controller, from which jobs are submitted, and nodes that run them.

    with SlurmCluster(tmp_path, {"n1": 2, "n2": 1}) as cluster:
        job = cluster.submit("--nodes=2", SCRIPT, "digits", "/mnt/shared/runs")
        assert cluster.wait(job)["JobState"] == "COMPLETED"

Each host has its own munge and daemon of Slurm; nothing of the machine's own Slurm is used.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import pytest
from hosts import SHARED, TEMPORARY, Host, Network

ROOT = Path(__file__).parents[2]
CONTROLLER = "controller"
HOME = SHARED / "home"
"""The user's home folder, which all hosts share as Slurm's clusters do."""
PLACE = SHARED / "slurm"
SOCKET = TEMPORARY / "munge.socket"
FINAL = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE")
CONFIG = """\
ClusterName=hosts
SlurmctldHost={controller}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={socket},cred_expire=20
CredType=cred/munge
StateSaveLocation=/mnt/home/state
SlurmdSpoolDir=/mnt/tmp/slurmd
SlurmctldPidFile=/mnt/tmp/slurmctld.pid
SlurmdPidFile=/mnt/tmp/slurmd.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={place}/completed
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=15
SchedulerParameters=batch_sched_delay=0
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
MUNGE = (
    "umask 077; cp {place}/munge.key /mnt/tmp/munge.key; munged --force --foreground --socket={socket} "
    "--key-file=/mnt/tmp/munge.key --pid-file=/mnt/tmp/munge.pid --seed-file=/mnt/tmp/munge.seed --log-file=/dev/stderr"
)


class SlurmCluster:
    """The hosts, and Slurm on them."""

    def __init__(self, folder: Path, nodes: Mapping[str, int]) -> None:
        """Describe a cluster.

        Args:
            folder: Home folders, the shared disk, and logs.
            nodes: CPUs of each node by its name.
        """
        self.folder, self.nodes = folder, dict(nodes)
        self.network = Network(folder, [CONTROLLER, *nodes])
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> SlurmCluster:
        require_slurm()
        self.network.__enter__()
        try:
            self._configure()
            for name in (CONTROLLER, *self.nodes):
                self.start(name)
            self.wait_for_nodes()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.network.__exit__(kind, error, traceback)
        for daemon in self._daemons:
            daemon.wait()

    @property
    def shared(self) -> Path:
        """The shared disk, as the test sees it."""
        return self.network.shared

    @property
    def venv(self) -> str:
        """The Python environment of the jobs."""
        return str(Path(sysconfig.get_path("scripts")).parent)

    def _configure(self) -> None:
        place = self.shared / "slurm"
        place.mkdir()
        (self.shared / "home").mkdir()
        (place / "munge.key").write_bytes(b"a key of the tests' own hosts and no others" * 4)
        (place / "completed").touch()
        lines = [
            f"NodeName={name} NodeAddr={self.network[name].address} CPUs={cpus} State=UNKNOWN"
            for name, cpus in self.nodes.items()
        ]
        text = CONFIG.format(
            controller=f"{CONTROLLER}({self.network[CONTROLLER].address})",
            socket=SOCKET,
            place=PLACE,
            nodes="\n".join(lines),
        )
        (place / "slurm.conf").write_text(text)

    def start(self, name: str) -> None:
        """Start munge and Slurm's daemon on a host."""
        host, log = self.network[name], self.folder / f"{name}.log"
        self._daemons.append(host.start(MUNGE.format(place=PLACE, socket=SOCKET), log))
        host.run(f"for i in $(seq 200); do [[ ! -S {SOCKET} ]] || exit 0; sleep 0.05; done; exit 1")
        daemon = (
            "mkdir -p /mnt/home/state; exec slurmctld -D"
            if name == CONTROLLER
            else f"mkdir -p /mnt/tmp/slurmd; exec slurmd -D -N {name}"
        )
        self._daemons.append(host.start(daemon, log, **VARIABLES))

    def boot(self, name: str) -> None:
        """Start a host again after a power cut."""
        self.network.boot(name)
        self.start(name)

    def call(self, command: str, **variables: str) -> str:
        """Run one of Slurm's commands on the controller and return what it prints."""
        return self.controller.run(command, **VARIABLES, **variables).stdout

    @property
    def controller(self) -> Host:
        """The host from which jobs are submitted."""
        return self.network[CONTROLLER]

    def wait_for_nodes(self, *, timeout: float = 60) -> None:
        """Wait until every node is idle."""
        nodes = ",".join(self.nodes)
        self._wait(lambda: self._states() == {"idle"}, f"nodes {nodes} are not idle", timeout)

    def _states(self) -> set[str]:
        done = self.controller.run("sinfo --noheader --Node --format=%T", check=False, **VARIABLES)
        return set(done.stdout.split()) or {done.stderr}

    def submit(self, *words: str, **variables: str) -> str:
        """Submit a batch file from the root of the repository, as a user does, and return the job's id."""
        made = f"cd {ROOT} && sbatch --parsable --chdir={HOME} {shlex.join(words)}"
        return self.call(made, **{"HOME": str(HOME), "VENV": self.venv, **variables}).strip()

    def show(self, job: str) -> dict[str, str]:
        """Return what Slurm knows about a job."""
        words = self.call(f"scontrol --oneliner show job {job}").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, job: str, *, timeout: float = 600) -> dict[str, str]:
        """Wait for the end of a job and return what Slurm knows about it."""
        self.wait_until(job, lambda facts: facts["JobState"] in FINAL, timeout=timeout)
        return self.show(job)

    def wait_until(self, job: str, condition: Callable[[dict[str, str]], bool], *, timeout: float = 600) -> None:
        """Wait until a condition on Slurm's facts of a job holds."""
        self._wait(lambda: condition(self.show(job)), f"job {job}", timeout)

    def log_of(self, job: str, name: str = "ungan-audit") -> str:
        """Return what a job, or a task of an array, has printed."""
        path = self.shared / f"home/{name}-{job.replace('_', '-')}.log"
        return path.read_text() if path.exists() else ""

    def clean_up(self) -> None:
        """Cancel every job, start the hosts that are down, and wait until every node is idle."""
        self.call("scancel --user=root")
        for name in self.nodes:
            if self.network[name].init.poll() is not None:
                self.boot(name)
        self.wait_for_nodes()

    def records(self) -> list[dict[str, str]]:
        """Return Slurm's accounting of the jobs that have ended."""
        lines = (self.shared / "slurm/completed").read_text().splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-3000:] for path in [
                    *self.folder.glob("*.log"), *self.shared.glob("home/*.log")
                ])  # fmt: skip
                raise AssertionError(f"not within {timeout:.0f} s: {what}\n{logs}")
            time.sleep(0.3)


VARIABLES = {"SLURM_CONF": str(PLACE / "slurm.conf")}


def require_slurm() -> None:
    """Skip the test, with the reason, where Slurm or munge is missing."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if not shutil.which(name)]
    if missing:
        pytest.skip(f"missing programs: {', '.join(missing)}. Install them: make services")
