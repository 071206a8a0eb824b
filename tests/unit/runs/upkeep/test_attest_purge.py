"""After a purge, or beside a hand-made record of one, no changed file passes as attested."""

from __future__ import annotations

from pathlib import Path

import pytest
from attested import assert_verdicts_are_printed, read, state_of, verified
from in_process import run_command

from ungan_dist import store
from ungan_dist.runs.upkeep import attestation

pytest.importorskip("cryptography", reason="attestations need cryptography: make setup")


def test_a_hand_made_purge_record_lets_nothing_changed_pass(place: Path) -> None:
    run, pinned = place / "out/run", ("--public-key", place / "key.pub")
    names = [f"run/{name}" for name in read(place)["files"]]
    store.write_record(
        run / "purged.json", {"purged": "x", "last": "x", "removed": names, "remaining": [], "notes": []}
    )
    found = verified(place, *pinned)
    assert (found.returncode, state_of(found)) == (0, "PURGED")
    assert "purged.json, is not signed: anybody could have written it" in found.stderr
    assert_verdicts_are_printed(found, run)
    marker = store.read_marker(run / "results/0/ungan.json")
    facts = marker["facts"] | {"accuracies": {"test": 1.0}}
    listed = marker["files"] | {"models/0/ungan.safetensors": "0" * 64}
    for name, change in {
        "report.html": lambda path: path.write_text(path.read_text().replace("</h1>", ": all forgotten</h1>", 1)),
        "results/0/ungan.json": lambda path: store.write_record(path, marker | {"facts": facts}),
        "results/0/retrain.json": lambda path: path.write_text("{}"),
        "models/0/ungan.safetensors": lambda path: path.write_bytes(b"x"),
        "table.json": Path.unlink,
        "table.md": Path.unlink,
        "timings.json": Path.unlink,
        "config.json": lambda path: path.write_bytes(path.read_bytes() + b" "),
        "figures/forest.svg": Path.unlink,
        "results/0/original.json": Path.unlink,
        "report.json": Path.unlink,
    }.items():  # fmt: skip
        content = (run / name).read_bytes()
        change(run / name)
        found = verified(place, *pinned)
        assert (found.returncode, found.stdout) == (1, "CORRUPT\n"), name
        [line] = [line for line in found.stderr.splitlines() if line.startswith("corrupt: ")]
        assert f"{run / name} " in line
        (run / name).write_bytes(content)
    store.write_record(run / "results/0/ungan.json", marker | {"files": listed})
    assert "ungan.json differs" in verified(place, *pinned).stderr


def test_a_page_that_was_forged_after_a_purge_is_found(place: Path) -> None:
    run, pinned = place / "out/run", ("--public-key", place / "key.pub")
    assert run_command("purge", run).returncode == 0
    page = (run / "report.html").read_text()
    assert "PURGED" in page
    remaining, date = "<p>None that this run has written.</p>", "the forget data, the pictures"
    for old, new in [("</h1>", "!</h1>"), (remaining, "<p>x</p>"), (date, "nothing"), ("</header>", "</header>x")]:
        assert page.count(old) == 1, old
        (run / "report.html").write_text(page.replace(old, new))
        found = verified(place, *pinned)
        assert (found.returncode, found.stdout) == (1, "CORRUPT\n"), old
        assert "report.html differs from the file that was attested" in found.stderr
        assert "no purge changes it so" in found.stderr
        assert_verdicts_are_printed(found, run)
    names = "<ul><li><code>shadows/&lt;a&gt;.npy</code></li></ul>"
    (run / "report.html").write_text(page.replace(remaining, names))
    assert state_of(verified(place, *pinned)) == "PURGED"


def test_a_purge_of_few_examples_may_remove_the_tables(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, pinned = place / "out/run", ("--public-key", place / "key.pub")
    monkeypatch.setattr(attestation, "FEW", 1000)
    monkeypatch.setattr("ungan_dist.runs.upkeep.purge.FEW", 1000)
    monkeypatch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])
    assert run_command("attest", run, "--key", place / "key").returncode == 0
    table = (run / "table.json").read_bytes()
    assert run_command("purge", run).returncode == 0
    assert not (run / "table.json").exists()
    found = verified(place, *pinned)
    assert (found.returncode, state_of(found)) == (0, "PURGED"), found.stderr
    assert "signed verdict: left out: fewer than" in found.stderr
    (run / "table.json").write_bytes(table + b" ")
    assert verified(place, *pinned).returncode == 1
