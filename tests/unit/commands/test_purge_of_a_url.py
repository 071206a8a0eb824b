"""The remedy for a run in object storage, which `purge` does not change."""

from __future__ import annotations

from in_process import assert_refused, run_command


def test_the_remedy_names_every_place_with_forget_data() -> None:
    names = [
        "models",
        "checkpoints",
        "log_odds",
        "summaries",
        "unlearned_shadows",
        "failures",
        "reports",
        "data",
        "shadows",
    ]
    done = run_command("purge", "s3://bucket/runs/digits-0123abcd")
    assert_refused(done, *(f"{name}/" for name in names), "report.html", "records.parquet", "membership.npy")
