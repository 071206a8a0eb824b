"""A rehearsal refuses a user's model before anything is trained, with the remedy, and accepts sound models."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch
from small_audit import small_config

from ungan_dist.config.training import ModelConfig
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.rehearsal.perform import Findings, Rehearsal, perform
from ungan_dist.runs.rehearsal.process import make_rehearsal


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Rehearsal:
    config = small_config(tmp_path_factory.mktemp("out"), model=ModelConfig(factory="misbehaving_models:Net"))
    return make_rehearsal(make_plan(config))


def rehearsed(rehearsal: Rehearsal, tmp_path: Path, factory: str, **changes: object) -> Findings:
    model = ModelConfig(factory=f"misbehaving_models:{factory}")
    return perform(dataclasses.replace(rehearsal, model=model, **changes), tmp_path / "stage")


REFUSED = {
    "AlwaysDropping": ["random in eval mode", "every log-odds would be noise", "training=self.training"],
    "NumpyNoise": ["random in eval mode"],
    "PythonNoise": ["random in eval mode"],
    "StaysInTraining": ["random in eval mode", "drop (Dropout) is still in training mode"],
    "OwnGenerator": ["change from call to call", "a generator of its own"],
    "Counting": ["change from call to call", "a counter"],
    "Alternating": ["change from call to call", "a counter"],
    "RemembersTheFirst": ["depend on the other examples in its batch, or on its place"],
    "AveragesInEval": ["changes mean in eval mode", "only while self.training is true"],
    "CentresTheBatch": ["depend on the other examples", "evaluated alone"],
    "CentresAfterTraining": ["depend on the other examples", "weights after one step"],
    "Placed": ["depend on the other examples", "or on its place"],
    "without_statistics": ["2 (BatchNorm1d) keeps no running statistics", "track_running_stats"],
    "PlainList": ["not in its state_dict: more is a plain list", "nn.ModuleList"],
    "PlainTensor": ["not in its state_dict", "register_buffer"],
    "NeedsGradient": ["cannot take images", "does not require grad"],
    "Detached": ["no gradient in training mode", "leave torch.no_grad()"],
    "InPlace": ["modifies its input images in place", "x = x - m"],
    "SameMemory": ["same memory in every call", "outputs.clone()"],
    "Whole": ["returns int64", "leave out its last argmax"],
    "HalfOutputs": ["returns bfloat16", "end its forward with .float()"],
    "half": ["body.weight of the model is in float16", "model.float()"],
    "bfloat16": ["is in bfloat16", "model.float()"],
    "on_meta": ["cannot be moved to cpu", "meta tensor"],
    "one_output": ["returns 1 logits per image, 10 classes are needed"],
    "Reseeds": ["calls torch.manual_seed", "leave it out"],
    "SetsThreads": ["changes the number of torch threads", "from 1 to 3", "leave that out"],
    "SetsDeterminism": ["changes torch.backends.cudnn.deterministic"],
    "TurnsGradientsOff": ["changes whether gradients are computed"],
    "sets_default_dtype": ["changes the default dtype", "torch.float64"],
    "always_the_same": ["the same weights in every call", "build a new one in each call"],
    "ever_wider": ["another architecture in every call"],
}


@pytest.mark.parametrize("factory", REFUSED)
def test_a_model_that_would_spoil_the_audit_is_refused(factory: str, rehearsal: Rehearsal, tmp_path: Path) -> None:
    found = rehearsed(rehearsal, tmp_path, factory)
    for words in REFUSED[factory]:
        assert words in found.error
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == 1
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "factory",
    [
        *("Net", "instance_norm", "batch_norm", "dropping", "Attending", "WithAutocast", "Squeezing"),
        *("HoldsItself", "CopiesAsItself"),  # a run copies by building anew
    ],
)
def test_a_sound_model_is_accepted(factory: str, rehearsal: Rehearsal, tmp_path: Path) -> None:
    found = rehearsed(rehearsal, tmp_path, factory)
    assert not found.error
    assert not found.notes
    assert "3 method(s)" in found.summary
    assert "each alone and in company" in found.summary


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("probabilities", "returns probabilities"),
        ("numpy_weights", "do not follow torch's seed"),
        ("NoisyTraining", "draws at random otherwise than by torch's seed"),
        ("fixed_weights", "starts from the same initial weights"),
        ("fast_cudnn", "sets torch.backends.cudnn.benchmark to True"),
    ],
)
def test_a_doubtful_model_is_accepted_with_a_note(
    factory: str, words: str, rehearsal: Rehearsal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    found = rehearsed(rehearsal, tmp_path, factory)
    assert not found.error
    assert words in found.notes[0]


def test_a_batch_of_one_is_refused_only_where_it_will_occur(rehearsal: Rehearsal, tmp_path: Path) -> None:
    sizes = {**rehearsal.set_sizes, "pool": 1025}
    found = rehearsed(rehearsal, tmp_path, "Squeezing", set_sizes=sizes)
    assert "shape (10,) for 1 images" in found.error
    assert "x.flatten(1) for x.squeeze()" not in found.error
    assert "write x.flatten(1)" in found.error


def test_stacking_is_refused_where_vmap_refuses(rehearsal: Rehearsal, tmp_path: Path) -> None:
    found = rehearsed(rehearsal, tmp_path, "dropping", engine="stacked")
    assert "use --shadows.engine serial" in found.error
    assert not rehearsed(rehearsal, tmp_path, "Net", engine="stacked").error


@pytest.mark.parametrize("engine", ["graph", "branches"])
def test_a_step_that_cannot_be_captured_is_refused(rehearsal: Rehearsal, tmp_path: Path, engine: str) -> None:
    found = rehearsed(rehearsal, tmp_path, "ReadsWeights", engine=engine)
    assert re.search(r"reads a tensor's value on the host.*misbehaving_models.py line \d+", found.error)
    assert "use --shadows.engine serial" in found.error
    assert not rehearsed(rehearsal, tmp_path, "ReadsWeights").error
    assert not rehearsed(rehearsal, tmp_path, "dropping", engine=engine).error
