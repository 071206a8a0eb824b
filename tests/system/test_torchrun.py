"""``torchrun … -m ungan_dist targets``: processes that torchrun starts, the same targets, fewer of them later."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from small_audit import SMALL_OPTIONS

from ungan_dist import store
from ungan_dist.commands.targets import main
from ungan_dist.errors import ConfigError
from ungan_dist.runs.record import read_run
from ungan_dist.training.torchrun import process_group


def torchrun(
    num_processes: int, output: Path, *options: str, module: str = "ungan_dist", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"),
            *("-m", module, "targets", "digits", *SMALL_OPTIONS, "--output", str(output), *options),
        ],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "CUDA_VISIBLE_DEVICES": "", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def weights(output: Path, method: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load((output / f"run/models/0/{method}.safetensors").read_bytes())


def num_workers(output: Path, method: str) -> int:
    return store.read_json(output / f"run/results/0/{method}.json")["facts"]["num_workers"]


@pytest.mark.timeout(300)
@pytest.mark.process
def test_two_processes_then_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = torchrun(2, tmp_path / "two", "--methods", "original,ungan")
    assert two.returncode == 0, two.stderr
    assert two.stdout.splitlines()[:2] == ["done: original, seed 0", "done: ungan, seed 0"]
    marker = tmp_path / "two/run/results/0/ungan.json"
    before = marker.stat().st_mtime_ns
    options = ["digits", *SMALL_OPTIONS, "--methods", "original,ungan,retrain", "--output"]
    for output in ("two", "one"):
        assert main([*options, str(tmp_path / output)]) == 0
    assert marker.stat().st_mtime_ns == before
    workers = {method: num_workers(tmp_path / "two", method) for method in ("original", "ungan", "retrain")}
    assert workers == {"original": 2, "ungan": 2, "retrain": 1}
    for method in ("original", "ungan"):
        ours, theirs = weights(tmp_path / "two", method), weights(tmp_path / "one", method)
        difference = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
        assert 0 < difference < 1e-2  # float32: rounding, grown over three epochs; 1e-9 holds in float64
    ours, theirs = weights(tmp_path / "two", "retrain"), weights(tmp_path / "one", "retrain")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.timeout(300)
@pytest.mark.process
def test_the_first_process_judges_the_kernels_for_all(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    few = [
        "--split.train",
        "24",
        "--split.shadow-pool",
        "24",
        "--split.unseen",
        "12",
        "--split.forget-fraction",
        "0.25",
    ]
    few += ["--train.epochs", "1", "--attack.fnr", "0.1", "--train.batch-size", "12", "--methods", "original"]
    helpers = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")])
    variables = {"PYTHONPATH": helpers, "NOTES": str(tmp_path), "TRITON_INTERPRET": "1"}
    done = torchrun(2, tmp_path / "out", *few, module="judging_ranks", **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "done: original, seed 0"
    assert (tmp_path / "judged").read_text() == "0\n"
    launched = [set((tmp_path / f"launched by {rank}").read_text().split()) for rank in (0, 1)]
    assert launched == [{"augment_kernel"}] * 2
    assert read_run(tmp_path / "out/run").resolved["kernels"]["devices"] == ["a GPU"]


def test_more_workers_than_were_started_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"num_workers is 2, but 1 process"):
        main(["digits", "--train.num-workers", "2", "--output", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_a_schedulers_world_size_alone_starts_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with process_group() as world:
        assert world.size == 1
