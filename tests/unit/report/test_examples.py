"""The report shows the right pictures of the forget set, and only if they may be shown."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_audit import small_config

from ungan_dist.report import render
from ungan_dist.report.redact import redact_page
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
    page = render(report)["report.html"].decode()
    assert "data:image/png" in page
    ungan = next(item for item in report.evidence if item.method == "ungan")
    ids, scores = plan.split.pool[ungan.forget], ungan.scores[ungan.forget]
    order = [int(ids[position]) for position in np.argsort(-scores)]
    assert [one.example for one in report.least_forgotten("ungan")] == order[:10]
    assert [one.example for one in report.most_forgotten("ungan", 3)] == order[::-1][:3]
    surest = report.least_forgotten("ungan")[0]
    assert surest.score == pytest.approx(scores.max())
    assert surest.p == pytest.approx(float(ungan.p_values.p[np.argmax(scores)]))
    with pytest.raises(ValueError, match="no results of 'scrub'; it has original, retrain, ungan"):
        report.least_forgotten("scrub")
    line = next(line for line in page.splitlines() if '<th scope="row">UnGAN</th><td>#' in line)
    assert [int(found) for found in re.findall(r"#(\d+):", line)] == order[:5] + order[::-1][:5]
    assert "Least forgotten" not in redact_page(page, notice="x", remaining=())

    private = dataclasses.replace(plan, source=dataclasses.replace(plan.source, bundled=False))
    hidden = build_report(private, [], silent)
    assert not hidden.examples
    assert b"data:image/png" not in render(hidden)["report.html"]
    assert b"Least forgotten" not in render(hidden)["report.html"]
    released = dataclasses.replace(
        private.record,
        config=dataclasses.replace(config, report=dataclasses.replace(config.report, show_examples=True)),
    )
    assert build_report(dataclasses.replace(private, record=released), [], silent).examples
