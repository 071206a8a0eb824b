"""Whole audits on a second device: no operation mixes devices, and no step waits for the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import InProcess
from pretend_device import DEVICE, Counts, pretend_device
from small_audit import small_config

from ungan_dist import store
from ungan_dist.attack.evidence import Report
from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.methods import UnGANBCEConfig, UnGANJointConfig, UNSIRConfig
from ungan_dist.config.methods.scrub import SCRUBConfig
from ungan_dist.runs.pipeline import audit
from ungan_dist.runs.units import Done, Failed, Unit, execute

pytestmark = pytest.mark.filterwarnings("ignore:.*to a meta parameter in the current model")
EVERY_METHOD = (
    *("original", "retrain", "fine_tuning", "random_labels", "neg_grads", "adv_neg_grads", "unsir", "scrub", "cf_k"),
    *("ungan", "ungan_joint", "ungan_bce"),
)
OTHER_FORMS = (
    *("original", "unsir", "scrub", "ungan_augmented", "ungan_energy_all_pairs", "ungan_penalty_of_jacobian"),
    *("ungan_joint_critic", "ungan_joint_no_pairing"),
)
OWN_STEPS = ("original", "fine_tuning", "adv_neg_grads", "unsir", "scrub", "ungan", "ungan_joint", "ungan_bce")
"""Every kind of step that a method may capture."""
METHODS = {"serial": EVERY_METHOD, "stacked": OTHER_FORMS, "graph": OWN_STEPS, "branches": ("original",)}
EPOCHS = 2
BCE = UnGANBCEConfig(epochs=1, critic_pretraining=3, critic_steps=2, critic_widths=(8, 8))


class OnPretendDevice:
    """Execute units one after another, each with its own counts."""

    def __init__(self) -> None:
        self.counts: dict[str, Counts] = {}

    def __call__(self, units: Sequence[Unit]) -> Iterator[Done | Failed]:
        for unit in units:
            with pretend_device() as counts:
                outcome = execute(unit)
            self.counts[unit.title] = counts
            yield outcome


def config(output: Path, engine: Any, batch_size: int) -> AuditConfig:
    small = small_config(output)
    scrub = SCRUBConfig(
        epochs=2, forget_batch_size=batch_size, retain_batch_size=batch_size, rewind=engine == "stacked"
    )
    changes: dict[str, Any] = {"ungan_joint": UnGANJointConfig(epochs=1), "ungan_bce": BCE}
    if engine == "stacked":  # and every other path through a method
        changes = {
            "unsir": UNSIRConfig(variant="class", noise_steps=3),
            "ungan_joint": UnGANJointConfig(epochs=1, critic_pretraining=3, critic_widths=(8, 8, 8)),
        }
    short = ("fine_tuning", "random_labels", "neg_grads", "adv_neg_grads", "cf_k")
    changes |= {name: replace(getattr(small, name), epochs=1) for name in short}
    return replace(
        small,
        methods=METHODS[engine],
        scrub=scrub,
        train=replace(small.train, epochs=EPOCHS, batch_size=batch_size),
        shadows=replace(small.shadows, engine=engine),
        **changes,
    )


@pytest.fixture(scope="module", params=list(METHODS))
def audits(request, tmp_path_factory) -> Callable[[int], tuple[Report, dict[str, Counts]]]:
    """Audits of one engine, by batch size."""
    done: dict[int, tuple[Report, dict[str, Counts]]] = {}

    def run(batch_size: int) -> tuple[Report, dict[str, Counts]]:
        if batch_size not in done:
            runner = OnPretendDevice()
            output = tmp_path_factory.mktemp(f"{request.param}-{batch_size}")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
                report = audit(config(output, request.param, batch_size), run_units=runner, device=DEVICE)
            done[batch_size] = report, runner.counts
        return done[batch_size]

    return run


@pytest.mark.process
def test_an_audit_mixes_no_devices(audits) -> None:
    report, counts = audits(40)
    assert report.status == "COMPLETE", report.failures
    assert len(report.rows) == len(counts) - 2  # two units of shadow models
    assert all(sum(unit.operations.values()) > 500 for unit in counts.values())  # it did compute there


@pytest.mark.process
def test_the_host_waits_as_often_for_twice_as_many_steps(audits) -> None:
    few, many = audits(40)[1], audits(20)[1]
    for title, counts in few.items():
        assert counts.waits == many[title].waits, title
        assert sum(counts.operations.values()) < sum(many[title].operations.values()), title


@pytest.mark.process
def test_a_pass_waits_for_its_indices_and_for_its_loss_alone(audits, request: pytest.FixtureRequest) -> None:
    engine = request.node.callspec.params["audits"]
    # a slot draws once more, for the batches by which it captures its steps
    drawn = {2 * EPOCHS, 2 * EPOCHS + 1} if engine in ("graph", "branches") else {2 * EPOCHS}
    read = {"serial": 2 * EPOCHS, "stacked": 0, "graph": 2 * EPOCHS, "branches": EPOCHS}
    for title, counts in audits(40)[1].items():
        passes, losses = (
            sum(number for place, number in counts.waits.items() if place.startswith(functions))
            for functions in (("data/examples.py, draw_pass",), ("training/train.py", "training/engines/"))
        )
        assert losses <= passes, title  # Adv. Neg Grads and UNSIR read the losses of their passes themselves
        if title.startswith("shadow"):
            assert passes in drawn
            assert losses == read[engine]
            # a model of a slot is reset by few operations, however many weights it has
            assert counts.operations["aten::_foreach_zero_"] == (2 if engine in ("graph", "branches") else 0)


@pytest.mark.process
@pytest.mark.usefixtures("without_figures")
def test_the_second_device_computes_the_same_numbers(tmp_path: Path) -> None:
    cpu, there, replayed = (
        replace(config(tmp_path / name, engine, 40), methods=("original", "ungan"))
        for name, engine in (("cpu", "serial"), ("there", "serial"), ("replayed", "graph"))
    )
    audit(cpu, run_units=InProcess())
    for one in (there, replayed):
        audit(one, run_units=OnPretendDevice(), device=DEVICE)
    for method in cpu.methods:
        theirs, *ours = (
            store.read_array(Path(one.output) / f"run/log_odds/0/{method}.npy") for one in (cpu, there, replayed)
        )
        for log_odds in ours:
            np.testing.assert_allclose(log_odds, theirs, atol=2e-3)


def test_devices_are_not_mixed_and_waits_are_counted() -> None:
    with pretend_device() as counts:
        there, here = torch.arange(4.0, device=DEVICE), torch.arange(4.0)
        for mixed in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there.long()]):
            with pytest.raises(RuntimeError, match="mixes devices"):
                mixed()
        assert not counts.waits
        assert (there * torch.tensor(2.0)).device.type == DEVICE  # CUDA takes numbers of the host
        here.to(DEVICE, non_blocking=True)
        assert not counts.waits
        waits = [
            lambda: float(there.sum()),
            lambda: there[there > 1],
            lambda: there.cpu(),
            lambda: here.to(DEVICE),
            lambda: there[torch.tensor([1])],
            lambda: bool((there > 9).any()),
            lambda: here.copy_(there),
        ]
        for number, wait in enumerate(waits, start=1):
            wait()
            assert sum(counts.waits.values()) == number, counts.waits
