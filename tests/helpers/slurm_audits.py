"""Audits under Slurm: the shipped batch files in each situation that the documentation describes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from hosts import SHARED
from slurm_hosts import FINAL, ROOT, SlurmCluster

FOLDER = ROOT / "cluster/manifests/slurm"
NODES = {"n1": 1, "n2": 1}
OPTIONS = (
    "--split.train 200 --split.shadow-pool 200 --split.unseen 50 --model.width 4 --shadows.num-models 12 "
    "--shadows.unit-size 2 --attack.num-resamples 100 --methods original,retrain --num-seeds 1 "
    "--train.function slow_training:fit --execution.run-name run"
)
SHORT, LONG = "4", "20"
"""Seconds of each of the 14 models. A time limit is at least a minute, so an audit that is cut off takes longer."""
Situation = Callable[[SlurmCluster, str], list[str]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What Slurm recorded of a situation's jobs, in the order in which they ended."""

    situation: str
    jobs: list[dict[str, str]]
    equal_bits: bool
    """Whether every array equals that of `--cluster local`, and there are no others."""


def submit(cluster: SlurmCluster, output: str, *slurm: str, pause: str = SHORT, **variables: str) -> str:
    """Submit the audit with options of Slurm."""
    words = [*slurm, str(FOLDER / "audit.sbatch"), "digits", str(SHARED / output), *OPTIONS.split()]
    return cluster.submit(*words, PAUSE=pause, **variables)


def wait_for_results(cluster: SlurmCluster, output: str, count: int, *, timeout: float = 180) -> None:
    """Wait until results of shadow models are committed."""
    deadline = time.monotonic() + timeout
    while len(list((cluster.shared / output / "shadows").glob("*.json"))) < count:
        assert time.monotonic() < deadline, f"no {count} results in {output}"
        time.sleep(0.1)


def _run(cluster: SlurmCluster, output: str) -> list[str]:
    job = submit(cluster, output, "--nodes=2")
    cluster.wait(job)
    return [job]


def _cut_off(cluster: SlurmCluster, output: str) -> list[str]:
    limits = ("--nodes=2", "--time=3", "--signal=B:USR1@10")
    first = submit(cluster, output, *limits, pause=LONG)
    assert cluster.wait(first)["ExitCode"] == "3:0", cluster.log_of(first)
    second = submit(cluster, output, "--nodes=2", pause=LONG)
    cluster.wait(second)
    return [first, second]


def _cut_off_and_requeued(cluster: SlurmCluster, output: str) -> list[str]:
    job = submit(cluster, output, "--nodes=2", "--time=3", "--signal=B:USR1@10", pause=LONG, REQUEUE="1")
    cluster.wait_until(job, lambda facts: int(facts["Restarts"]) >= 1)
    cluster.wait(job, timeout=2400)  # on a busy machine, little of three minutes is left after Ray's start
    return [job]


def _requeue(cluster: SlurmCluster, output: str) -> list[str]:
    job = submit(cluster, output, "--nodes=2")
    wait_for_results(cluster, output, 2)
    cluster.call(f"scontrol requeue {job}")
    cluster.wait(job)
    return [job]


def _cancel(cluster: SlurmCluster, output: str) -> list[str]:
    first = submit(cluster, output, "--nodes=2")
    wait_for_results(cluster, output, 2)
    cluster.call(f"scancel {first}")
    cluster.wait(first)
    cluster.wait_for_nodes()
    second = submit(cluster, output, "--nodes=2")
    cluster.wait(second)
    return [first, second]


def _lose(node: str) -> Situation:
    def run(cluster: SlurmCluster, output: str) -> list[str]:
        cluster.wait_for_nodes()
        job = submit(cluster, output, "--nodes=1-2")
        wait_for_results(cluster, output, 2)
        assert cluster.show(job)["NumNodes"] == "2"
        cluster.network[node].cut_power()
        cluster.wait_until(job, lambda facts: int(facts["Restarts"]) >= 1 or facts["JobState"] in FINAL)
        cluster.wait(job)
        cluster.boot(node)
        cluster.wait_for_nodes()
        return [job]

    return run


def _fewer(cluster: SlurmCluster, output: str) -> list[str]:
    holder = cluster.call("sbatch --parsable --nodelist=n2 --exclusive --wrap 'sleep 600'").strip()
    job = submit(cluster, output, "--nodes=1-2")
    cluster.wait(job)
    cluster.call(f"scancel {holder}")
    return [job]


SITUATIONS: dict[str, Situation] = {
    "runs on two nodes": _run,
    "is cut off by its time limit; the same line continues it": _cut_off,
    "`--nodes=1-2` loses its second node": _lose("n2"),
    "`--nodes=1-2` loses its first node, with Ray's head and the driver": _lose("n1"),
    "is requeued by `scontrol requeue`": _requeue,
    "is cut off by its time limit; with `REQUEUE=1` it continues itself": _cut_off_and_requeued,
    "`--nodes=1-2` gets one node, because the other has a job": _fewer,
    "is cancelled; the same line continues it": _cancel,
}


def run_situation(cluster: SlurmCluster, name: str, undisturbed: dict[str, bytes]) -> Outcome:
    """Run a situation, and compare its results with those of an undisturbed audit."""
    output = f"situation-{list(SITUATIONS).index(name)}"
    jobs = SITUATIONS[name](cluster, output)
    equal = list_results(cluster, output) == undisturbed
    return Outcome(situation=name, jobs=accounting(cluster, jobs), equal_bits=equal)


def run_locally(cluster: SlurmCluster) -> dict[str, bytes]:
    """Run the audit on the controller, without Slurm and Ray, and return its results."""
    shutil.copy(ROOT / "tests/helpers/slow_training.py", cluster.shared / "home")
    cluster.controller.run(f"cd {SHARED}/home && ungan-dist run digits --output {SHARED}/local {OPTIONS}", timeout=400)
    return list_results(cluster, "local")


def list_results(cluster: SlurmCluster, output: str) -> dict[str, bytes]:
    """Read every array of a run's output: log-odds of shadow models and targets, and membership."""
    folder = cluster.shared / output
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npy"))}


def accounting(cluster: SlurmCluster, jobs: list[str]) -> list[dict[str, str]]:
    """Return Slurm's own records of jobs: state, exit code, nodes, and seconds from start to end."""
    rows: list[dict[str, str]] = []
    for record in cluster.records():
        if record["JobId"] in jobs:
            begun, ended = (datetime.fromisoformat(record[name]) for name in ("StartTime", "EndTime"))
            rows.append(
                {
                    "job": record["JobId"],
                    "state": record["JobState"],
                    "exit_code": record["ExitCode"],
                    "nodes": record["NodeList"],
                    "elapsed_s": str(int((ended - begun).total_seconds())),
                }
            )
    return rows
