"""The shipped batch files under a real Slurm, whose nodes are hosts with a network of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import SHARED
from slurm_audits import FOLDER, NODES, SITUATIONS, list_results, run_locally, run_situation
from slurm_hosts import SlurmCluster
from slurm_stubs import DRIVER, RAY, write_program
from small_audit import SMALL_OPTIONS

from ungan_dist import store

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
AUDIT = str(FOLDER / "audit.sbatch")
ARRAY = str(FOLDER / "array.sbatch")
RESOLVE_TO_LOOPBACK = 'sed "s/.* $HOSTNAME$/127.0.1.1 $HOSTNAME/" /etc/hosts > /mnt/tmp/names'
"""As Debian's installer writes the name of a machine."""
NO_RAY = "for i in $(seq 60); do pgrep -f '[r]aylet|[g]cs_server|[r]ay::' || exit 0; sleep 0.5; done; exit 1"
"""Fails if a process of Ray is still there after 30 s."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with SlurmCluster(tmp_path_factory.mktemp("slurm"), NODES) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(cluster: SlurmCluster) -> dict[str, bytes]:
    return run_locally(cluster)


def test_an_audit_on_two_nodes_has_the_bits_of_one_process(cluster: SlurmCluster, finished_run: Path) -> None:
    first = cluster.network["n1"]
    first.run(f"{RESOLVE_TO_LOOPBACK}; mount --bind /mnt/tmp/names /etc/hosts")
    assert first.run("hostname --ip-address").stdout.strip() == "127.0.1.1"
    try:
        job = cluster.submit("--nodes=2", AUDIT, "digits", str(SHARED / "runs"), *SMALL_OPTIONS)
        facts = cluster.wait(job)
    finally:
        first.run("umount /etc/hosts")
    log = cluster.log_of(job)
    assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0"), log
    assert f"2 nodes, Ray's head on n1 ({first.address}:" in log
    assert re.search(r"workers: \d of 2", log), "each node has one CPU"
    folder = cluster.shared / "runs"
    assert store.read_json(folder / "run/table.json")["status"] == "COMPLETE"
    expected = {str(path.relative_to(finished_run)): path.read_bytes() for path in finished_run.rglob("*.npy")}
    assert list_results(cluster, "runs") == expected
    # Slurm's own record, and nothing is left of the job: no process, no token
    (record,) = [record for record in cluster.records() if record["JobId"] == job]
    assert (record["JobState"], record["NodeList"], record["ExitCode"]) == ("COMPLETED", "n[1-2]", "0:0")
    for node in cluster.nodes:
        cluster.network[node].run(NO_RAY)
    assert list_states(cluster) == []


@pytest.fixture(scope="module")
def stubs(cluster: SlurmCluster) -> dict[str, str]:
    """An environment whose Ray runs the driver at once, and whose driver only ends: for what depends on neither."""
    (cluster.shared / "venv/bin").mkdir(parents=True)
    (cluster.shared / "stubs").mkdir()
    write_program(cluster.shared / "venv/bin", "ray", RAY)
    write_program(cluster.shared / "venv/bin", "ungan-dist", DRIVER)
    return {"VENV": str(SHARED / "venv"), "STUBS": str(SHARED / "stubs")}


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_the_exit_code_is_the_drivers(cluster: SlurmCluster, stubs: dict[str, str], code: int) -> None:
    job = cluster.submit("--nodes=1", AUDIT, "digits", "/shared/runs", DRIVER_CODE=str(code), **stubs)
    assert cluster.wait(job)["ExitCode"] == f"{code}:0", cluster.log_of(job)


def test_a_failed_start_of_ray_is_a_failure(cluster: SlurmCluster, stubs: dict[str, str]) -> None:
    job = cluster.submit("--nodes=1", AUDIT, "digits", "/shared/runs", RAY_FAILS="1", **stubs)
    assert cluster.wait(job)["ExitCode"] == "1:0"
    assert "the driver did not finish" in cluster.log_of(job)


@pytest.mark.parametrize("words", [(), ("digits",)])
def test_missing_arguments_print_the_usage(cluster: SlurmCluster, words: tuple[str, ...]) -> None:
    job = cluster.submit(AUDIT, *words)
    assert cluster.wait(job)["ExitCode"] != "0:0"
    assert "usage: sbatch audit.sbatch RECIPE OUTPUT" in cluster.log_of(job)


def test_every_word_reaches_the_driver(cluster: SlurmCluster, stubs: dict[str, str]) -> None:
    words = ("--num-seeds", "3", "--execution.run-name", "with a space")
    job = cluster.submit("--nodes=1", AUDIT, "paper", "/shared/runs", *words, **stubs)
    assert cluster.wait(job)["ExitCode"] == "0:0"
    given = (cluster.shared / "stubs/driver.log").read_text().splitlines()
    assert given == ["run", "paper", "--output", "/shared/runs", "--cluster", given[5], *words]


def test_a_task_of_an_array_takes_the_words_of_its_line(cluster: SlurmCluster, stubs: dict[str, str]) -> None:
    audits = cluster.shared / "home/audits.txt"
    audits.write_text("digits\npaper --execution.run-name 'with a space; $(touch /mnt/shared/expanded)'\n\n")
    job = cluster.submit("--array=2-4", ARRAY, str(SHARED / "home/audits.txt"), "/shared/runs", **stubs)
    codes = [cluster.wait(f"{job}_{number}")["ExitCode"] for number in (2, 3, 4)]
    assert codes == ["0:0", "2:0", "2:0"]
    assert (cluster.shared / "stubs/driver.log").read_text().splitlines() == [
        *("run", "paper", "--execution.run-name", "with a space; $(touch /mnt/shared/expanded)"),
        *("--execution.num-processes", "1", "--output", "/shared/runs", "--cluster", "local"),
    ]
    assert not (cluster.shared / "expanded").exists()
    for number in (3, 4):
        assert f"line {number} of" in cluster.log_of(f"{job}_{number}", "ungan-array")


def test_each_job_has_a_private_token(cluster: SlurmCluster, stubs: dict[str, str]) -> None:
    tokens: set[str] = set()
    folder = cluster.shared / "stubs"
    for _ in range(2):
        job = cluster.submit("--nodes=1", AUDIT, "digits", "/shared/runs", RAY_AUTH_TOKEN="of another cluster", **stubs)
        assert cluster.wait(job)["ExitCode"] == "0:0"
        token, environment = (folder / "token").read_text(), (folder / "ray.env").read_text()
        assert re.fullmatch("[0-9a-f]{64}", token)
        assert token not in environment
        assert "RAY_AUTH_MODE=token\n" in environment
        assert "of another cluster" not in environment
        assert (folder / "modes").read_text().split() == ["600", "700"]
        tokens.add(token)
    assert len(tokens) == 2
    assert list_states(cluster) == []


@pytest.mark.chaos
@pytest.mark.parametrize("requeue", ["0", "1"])
def test_the_time_limit_ends_the_driver_with_3(cluster: SlurmCluster, stubs: dict[str, str], requeue: str) -> None:
    limits = ("--nodes=1-2", "--time=1", "--signal=B:USR1@10")
    job = cluster.submit(*limits, AUDIT, "digits", "/shared/runs", DRIVER_WORKS="1", REQUEUE=requeue, **stubs)
    if requeue == "1":
        cluster.wait_until(job, lambda facts: facts["Restarts"] == "1")
    facts = cluster.wait(job)
    expected = {"0": ("FAILED", "3:0", "0"), "1": ("COMPLETED", "0:0", "1")}
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == expected[requeue], cluster.log_of(job)
    assert "the time limit is near" in cluster.log_of(job)
    assert list_states(cluster) == []


@pytest.mark.chaos
@pytest.mark.parametrize("node", NODES)
def test_a_job_starts_again_without_a_node_that_fails(cluster: SlurmCluster, stubs: dict[str, str], node: str) -> None:
    cluster.wait_for_nodes()
    (cluster.shared / "stubs/works").unlink(missing_ok=True)
    job = cluster.submit("--nodes=1-2", AUDIT, "digits", "/shared/runs", DRIVER_WORKS="1", **stubs)
    cluster.wait_until(job, lambda facts: (cluster.shared / "stubs/works").exists())
    assert cluster.show(job)["NumNodes"] == "2"
    cluster.network[node].cut_power()
    try:
        cluster.wait_until(job, lambda facts: facts["Restarts"] == "1")
        facts = cluster.wait(job)
    finally:
        cluster.boot(node)
        cluster.wait_for_nodes()
    assert (facts["JobState"], facts["ExitCode"], facts["NumNodes"]) == ("COMPLETED", "0:0", "1"), cluster.log_of(job)
    assert facts["NodeList"] != node
    assert list_states(cluster) == []


def list_states(cluster: SlurmCluster) -> list[Path]:
    """List the folders of jobs, which hold their tokens."""
    return [path for path in (cluster.shared / "home").iterdir() if path.name.startswith(".ungan")]


@pytest.mark.chaos
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_job_reaches_its_table(cluster: SlurmCluster, undisturbed: dict[str, bytes], situation: str) -> None:
    outcome = run_situation(cluster, situation, undisturbed)
    print(outcome)
    assert outcome.equal_bits
    assert list_states(cluster) == []
    assert (outcome.jobs[-1]["state"], outcome.jobs[-1]["exit_code"]) == ("COMPLETED", "0:0")
    if "cut off" in situation:
        assert outcome.jobs[0]["state"] != "COMPLETED"


@pytest.mark.chaos
def test_more_nodes_than_exist_are_named_by_slurm(cluster: SlurmCluster) -> None:
    job = cluster.submit("--nodes=3", AUDIT, "digits", str(SHARED / "none"))
    cluster.wait_until(job, lambda facts: facts["Reason"] not in ("None", "Priority"), timeout=60)
    assert cluster.show(job)["Reason"] in ("PartitionNodeLimit", "PartitionConfig", "Resources")
    cluster.call(f"scancel {job}")


@pytest.mark.chaos
def test_a_node_without_ray_is_a_clear_end(cluster: SlurmCluster) -> None:
    other = cluster.network["n2"]
    other.run("mkdir /mnt/tmp/none; mount --bind /mnt/tmp/none $(dirname $(command -v ray))")
    try:
        job = cluster.submit(
            *("--nodes=2", AUDIT, "digits", str(SHARED / "none"), *SMALL_OPTIONS),
            RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT="20",
        )
        facts = cluster.wait(job)
    finally:
        other.run(f"umount {Path(cluster.venv) / 'bin'}")
    assert (facts["JobState"], facts["ExitCode"]) == ("FAILED", "1:0")
    log = cluster.log_of(job)
    assert "Timed out waiting for other nodes to start" in log
    assert "the driver did not finish" in log


@pytest.mark.chaos
def test_each_task_of_an_array_is_an_audit(cluster: SlurmCluster, finished_run: Path) -> None:
    small = " ".join(SMALL_OPTIONS).replace("--execution.run-name run", "--execution.run-name '{}'")
    lines = [
        f"digits {small.format('run')}",
        f"digits {small.format('a second')} --methods original,retrain",
        "digits --no-such-option",
    ]
    (cluster.shared / "home/audits.txt").write_text("\n".join([*lines, ""]))
    job = cluster.submit("--array=1-3", ARRAY, str(SHARED / "home/audits.txt"), str(SHARED / "array"))
    tasks = [f"{job}_{number}" for number in range(1, 4)]
    found = [cluster.wait(task)["ExitCode"] for task in tasks]
    assert found == ["0:0", "0:0", "2:0"], [cluster.log_of(task, "ungan-array") for task in tasks]
    for name in ("run", "a second"):
        assert store.read_json(cluster.shared / "array" / name / "table.json")["status"] == "COMPLETE"
    arrays = list_results(cluster, "array")
    expected = {str(path.relative_to(finished_run)): path.read_bytes() for path in finished_run.rglob("*.npy")}
    # the second audit trains equal shadow models, and shares them
    assert {name: content for name, content in arrays.items() if not name.startswith("a second/")} == expected
    assert "no-such-option" in cluster.log_of(tasks[2], "ungan-array")
