"""Membership p values of the forget examples of a finished run, in its report, its table and ``load_p_values``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t
from synthetic_report import make_report

from ungan_dist import load_p_values, store
from ungan_dist.attack.flat import flatten_rows
from ungan_dist.errors import ConfigError
from ungan_dist.report.low_p_values import describe_low_p_values
from ungan_dist.runs.plan import reopen_plan
from ungan_dist.runs.progress import silent
from ungan_dist.runs.record import read_run
from ungan_dist.runs.reporting import build_report
from ungan_dist.runs.snapshot import from_plain, to_plain


def test_each_forget_example_is_compared_with_the_shadow_models_that_never_had_it(finished_run: Path) -> None:
    run = next(path.parent for path in finished_run.rglob("table.json"))
    found = load_p_values(run, "original")
    plan = reopen_plan(read_run(run))
    draw = next(unit.draw for unit in plan.targets if unit.seed == 0)
    np.testing.assert_array_equal(found.ids, plan.split.pool[draw.forget])
    shadows = np.concatenate([np.load(run.parent / unit.log_odds_file) for unit in plan.shadows])
    target = np.load(run / "log_odds/0/original.npy")
    for position, p in zip(draw.non_members, found.non_member_p, strict=True):
        out = shadows[~plan.membership[:, position], position].astype(float).mean(1)
        distance = (target[position].astype(float).mean() - out.mean()) / out.std(ddof=1)
        assert p == pytest.approx(t.sf(distance / np.sqrt(1 + 1 / len(out)), len(out) - 1), abs=1e-9)
    for index, position in enumerate(draw.forget):
        out = shadows[~plan.membership[:, position], position].astype(float).mean(1)
        assert len(out) == found.num_out[index]
        distance = (target[position].astype(float).mean() - out.mean()) / out.std(ddof=1)
        assert found.p[index] == pytest.approx(t.sf(distance / np.sqrt(1 + 1 / len(out)), len(out) - 1), abs=1e-9)
    row = store.read_json(run / "table.json")["rows"][0]
    assert row["low_p_values"]["0.05"] == [pytest.approx(np.mean(found.p <= 0.05), abs=1e-6)]
    share = np.mean(found.non_member_p <= 0.05)
    assert row["low_p_values_of_non_members"]["0.05"] == [pytest.approx(share, abs=1e-6)]
    page = (run / "report.html").read_text()
    assert f"% at p ≤ 0.05 (non-members: {100 * share:.1f} %)" in page
    line = f"<td>{100 * np.mean(found.p <= 0.05):.1f} %</td><td>{100 * share:.1f} %</td>"
    assert f'<tr><th scope="row">Original</th>{line}' in page
    assert "by chance, as many per cent" not in page
    [flat, *_] = flatten_rows(build_report(plan, [], silent))
    assert flat["share_of_p_below_0.05_of_non_members"] == pytest.approx(share)
    # digits are public, so single examples may be shown
    assert page.count(", p 0.") + page.count(", p 1.") >= 3
    with pytest.raises(ConfigError, match=r"no result of 'scrub' for seed 0; it has .*ungan"):
        load_p_values(run, "scrub")


def test_a_private_report_names_no_example_and_no_single_p_value(finished_run: Path) -> None:
    from ungan_dist.report import render

    run = next(path.parent for path in finished_run.rglob("table.json"))
    report = build_report(reopen_plan(read_run(run)), [], silent)
    private = dataclasses.replace(report, examples=[])
    moved = [
        dataclasses.replace(
            item, p_values=item.p_values and dataclasses.replace(item.p_values, ids=item.p_values.ids + 7)
        )
        for item in private.evidence
    ]
    files = render(private)
    assert render(dataclasses.replace(private, evidence=moved)) == files
    assert b", p 0." not in b"".join(files.values())


def test_a_stored_row_without_the_share_of_non_members_opens() -> None:
    report = make_report(1)
    shares = {"0.05": [0.459], "0.01": [0.2]}
    shown = to_plain(dataclasses.replace(report, rows=[dataclasses.replace(report.rows[0], low_p_values=shares)]))
    for row in shown["rows"]:
        del row["low_p_values_of_non_members"]
    [row] = from_plain(shown).rows
    assert describe_low_p_values(row) == [
        "Forget examples that look like members one by one: 45.9 % at p ≤ 0.05 (non-members: –), "
        "20.0 % at p ≤ 0.01 (non-members: –)."
    ]
