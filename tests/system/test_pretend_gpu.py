"""The pretend GPU: programs find a CUDA device, and meet there what they would meet on a real one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pretend_gpu
import pytest

pytestmark = pytest.mark.process
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="the pretend GPU needs a C compiler")
PROGRAM = """
import torch

weight = torch.ones(2, device="cuda", requires_grad=True)
optimizer = torch.optim.SGD([weight], lr=torch.tensor(1.0, device="cuda"), momentum=0.5, fused=True)


def step():
    optimizer.zero_grad()
    (2 * weight).sum().backward()
    optimizer.step()


step()
print("step", weight.tolist())
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph):
    step()
print("capture", weight.tolist())
graph.replay()
graph.replay()
print("replays", weight.tolist())
step()
print("step", weight.tolist())


def show(name, call):
    try:
        call()
    except RuntimeError as error:
        print(name, str(error).split(": ")[0][:60])


def read_within_capture():
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        float(weight.sum())


show("mixed", lambda: weight + torch.ones(2))
show("read", read_within_capture)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to("cuda")
start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
start.record()
with torch.autocast("cuda", dtype=torch.bfloat16), torch.cuda.stream(torch.cuda.Stream()):
    network(torch.randn(2, 3, 8, 8).pin_memory().to("cuda", non_blocking=True)).square().mean().backward()
end.record()
torch.cuda.synchronize()
print("network", network[0].weight.grad.device, start.elapsed_time(end) > 0)
"""


@needs_compiler
def test_a_program_runs_on_it(tmp_path: Path) -> None:
    """SGD with momentum 1/2 and gradient 2 has the velocities 2, 3, 3.5, 3.75; a capture alone changes nothing."""
    environment = os.environ | pretend_gpu.environment(tmp_path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "step [-1.0, -1.0]",
        "capture [-1.0, -1.0]",
        "replays [-7.5, -7.5]",
        "step [-11.25, -11.25]",
        "mixed aten.add.Tensor mixes devices",
        "read CUDA error",
        "network cuda:0 True",
    ]


def test_it_names_a_missing_compiler(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("CC", "absent-compiler")
    with pytest.raises(RuntimeError, match="needs a C compiler, and absent-compiler is not installed"):
        pretend_gpu.environment(tmp_path)
