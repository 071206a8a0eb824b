"""The report shows the right pictures of the forget set, and only if they may be shown."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_audit import small_config

from ungan_dist.report import render
from ungan_dist.runs.plan import make_plan
from ungan_dist.runs.progress import silent
from ungan_dist.runs.reporting import build_report


@pytest.mark.usefixtures("without_figures")
def test_pictures_are_of_the_forget_set_and_only_of_public_or_released_data(output: Path) -> None:
    config = small_config(output)
    plan = make_plan(config)
    report = build_report(plan, [], silent)
    forget = set(plan.split.pool[plan.draws[0].forget].tolist())
    assert len(report.examples) == 12
    assert {example.id for example in report.examples} <= forget
    for example in report.examples:
        pixels = np.asarray(Image.open(io.BytesIO(example.png)))
        assert (pixels == plan.source.images[example.id][..., 0]).all()
        assert set(example.scores) == {"Original", "Retrain", "UnGAN"}
    surest = [example.scores["Original"] for example in report.examples]
    assert surest == sorted(surest, reverse=True)
    assert b"data:image/png" in render(report)["report.html"]

    private = dataclasses.replace(plan, source=dataclasses.replace(plan.source, bundled=False))
    hidden = build_report(private, [], silent)
    assert not hidden.examples
    assert b"data:image/png" not in render(hidden)["report.html"]
    released = dataclasses.replace(
        private.record,
        config=dataclasses.replace(config, report=dataclasses.replace(config.report, show_examples=True)),
    )
    assert build_report(dataclasses.replace(private, record=released), [], silent).examples
