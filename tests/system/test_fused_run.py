"""A run with --execution.kernels fused computes with every fused kernel; without Triton's interpreter it is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import InProcess, assert_refused, run_command

from ungan_dist.commands.options import recipe_config
from ungan_dist.kernels.impl import FUSED
from ungan_dist.runs.pipeline import audit

OPTIONS = [
    *("--split.train", "24", "--split.shadow-pool", "24", "--split.unseen", "12", "--split.forget-fraction", "0.25"),
    *("--model.width", "4", "--train.epochs", "1", "--train.batch-size", "12", "--shadows.num-models", "4"),
    *(
        "--attack.num-resamples",
        "100",
        "--attack.fnr",
        "0.1",
        "--methods",
        "original,retrain,ungan,ungan_joint",
        "--ungan-joint.epochs",
        "1",
        "--num-seeds",
        "1",
    ),
    *("--ungan.epochs", "1", "--ungan.critic-widths", "4", "4", "4", "--execution.run-name", "run"),
]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are counted in Triton's interpreter")


def count_launches(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    from triton.runtime.interpreter import GridExecutor

    launches: Counter[str] = Counter()
    launch = GridExecutor.__call__

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        launches[self.fn.__name__] += 1
        return launch(self, *arguments, **options)

    monkeypatch.setattr(GridExecutor, "__call__", counted)
    return launches


@pytest.mark.process
@pytest.mark.usefixtures("without_figures")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, under the interpreter
def test_a_run_reaches_every_fused_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = count_launches(monkeypatch)
    words = ["digits", *OPTIONS, "--output", str(tmp_path), "--execution.kernels", "fused"]
    report = audit(recipe_config(words, command="run"), run_units=InProcess())
    assert report.status == "COMPLETE"
    assert set(launches) == {
        *("embed_kernel", "critic_kernel", "backward_kernel", "surrogate_kernel", "weights_kernel"),
        *("reduce_kernel", "descend_kernel", "log_odds_kernel", "augment_kernel", "group_kernel"),
    }
    assert launches["descend_kernel"] == launches["critic_kernel"]
    kernels: Any = report.resolved["kernels"]
    assert set(kernels) == FUSED - {"cramer_surrogate", "gradient_penalty", "energy_distance"}
    assert set(kernels.values()) == {"fused: asked for"}
    # the same command without the option keeps the kernels of the run, and prints its report
    launches.clear()
    again = run_command("run", *words[:-2])
    assert again.returncode == 0, again.stderr
    assert not launches
    planned = run_command("plan", *words[:-2], "--no-probe")
    assert "fused: asked for" in planned.stdout
    assert_refused(run_command("run", *words[:-1], "reference"), "cannot go on with --execution.kernels reference")


@pytest.mark.usefixtures("compiled_kernels")
def test_without_a_gpu_fused_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    refused = run_command("run", "digits", *OPTIONS, "--output", tmp_path, "--execution.kernels", "fused")
    assert_refused(refused, "--execution.kernels fused cannot run", "not on a CUDA GPU", "auto or reference")
    assert not list(tmp_path.iterdir())


def test_on_a_cpu_auto_is_the_reference_and_plan_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the interpreter could run every kernel."""
    launches = count_launches(monkeypatch)
    planned = run_command("plan", "digits", *OPTIONS, "--output", tmp_path, "--no-probe")
    assert (
        "critic_loss, critic_sgd_step, energy_distance_1d, gather_augmented, generator_loss, log_odds: reference"
        in planned.stdout
    )
    assert not launches
    assert not (tmp_path / "run").exists()
