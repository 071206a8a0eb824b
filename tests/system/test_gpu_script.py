"""The script for a GPU host, rehearsed on a pretend GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
pytest.importorskip("triton")


def run(output: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    command = [sys.executable, "-W", "ignore", BENCHMARKS / "gpu.py", output, "--rehearse", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    return done, [json.loads(line) for line in (output / "rows.jsonl").read_text().splitlines()]


@pytest.mark.process
@pytest.mark.timeout(300)
def test_the_cheap_parts_are_rehearsed(tmp_path: Path) -> None:
    done, rows = run(tmp_path, "--parts", "machine,cifar-stem")
    assert done.returncode == 0, (tmp_path / "log.txt").read_text()
    assert all(row["rehearsal"] for row in rows)
    steps = {row["subject"]: row for row in rows if "arm" in row}
    assert set(steps) == {"tf32", "bf16", "graph", "graph, bf16", "branches of 4, bf16"}
    assert steps["graph"]["error"] < 1e-4  # relative to how far training moves the weights
    assert 1e-4 < steps["bf16"]["error"] < 0.2
    facts = {row["subject"]: row for row in rows if row["part"] == "machine"}
    assert facts["versions"]["versions"]["GPU"] == "Pretend GPU (sm_90)"
    assert facts["clocks"]["name"] == "Pretend GPU"
    assert facts["packages"]["missing"] == "none"
    assert "nothing here is a measurement" in (tmp_path / "table.md").read_text()


def test_a_part_that_fails_leaves_a_row_and_the_next_one_runs(tmp_path: Path, monkeypatch, capsys) -> None:
    import gpu

    failing = {name: gpu.Part(f"{name}:main", 20) for name in ("absent", "absent too")}
    monkeypatch.setattr(gpu, "PARTS", failing)
    assert gpu.main([str(tmp_path), "--parts", "absent,absent too"]) == 1
    rows = gpu.read_rows(tmp_path / "rows.jsonl")
    assert [(row["part"], row["subject"]) for row in rows] == [("absent", "the part"), ("absent too", "the part")]
    assert all("exit code" in row["failed"] for row in rows)


def test_a_missing_package_is_a_row_with_its_name(tmp_path: Path, monkeypatch) -> None:
    import gpu

    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['safetensors'] = None")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert gpu.main([str(tmp_path / "out"), "--parts", "unlearning"]) == 1
    reason, end = gpu.read_rows(tmp_path / "out/rows.jsonl")
    assert "ModuleNotFoundError" in reason["failed"]
    assert "safetensors" in reason["failed"]
    assert "PYTHONPATH" in reason["failed"]
    assert end["part_s"] > 0


def test_half_a_row_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    from gpu_parts.session import Session, read_rows

    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"part": "st')
    for subject in ("a", "b"):
        Session(rows=rows, part="stem", is_rehearsal=False, scratch=tmp_path).append(subject)
    assert [row["subject"] for row in read_rows(rows)] == ["a", "b"]


def test_a_part_that_takes_too_long_is_ended_and_leaves_a_row(tmp_path: Path, monkeypatch) -> None:
    import gpu

    # the part's own process sleeps before it does anything, however busy this one is
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/sitecustomize.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    monkeypatch.setattr(gpu, "PARTS", {"machine": gpu.Part("machine:describe", 0.05)})
    monkeypatch.setattr(gpu, "LEAST_S", 0.0)
    assert gpu.main([str(tmp_path), "--parts", "machine"]) == 1
    (row,) = gpu.read_rows(tmp_path / "rows.jsonl")
    assert "took more than" in row["failed"]
    assert "took more than" in (tmp_path / "table.md").read_text()


def test_the_parts_fit_in_nine_minutes() -> None:
    import gpu

    assert sum(part.limit_s for part in gpu.PARTS.values()) <= gpu.TOTAL_S == 540


def test_rows_are_published_and_those_of_a_rehearsal_are_refused(tmp_path: Path, monkeypatch) -> None:
    import publish

    monkeypatch.setattr(publish, "RESULTS", tmp_path)
    rows = tmp_path / "rows.jsonl"
    row = {"part": "stem", "subject": "graph", "rival": "serial", "ratio": 2.0, "interval": [1.5, 2.5], "error": 0.0}
    row |= {"num_pairs": 20, "ratios": [2.0] * 20}
    rows.write_text(json.dumps(row | {"rehearsal": True}) + "\n")
    with pytest.raises(SystemExit, match="rehearsal"):
        publish.store_gpu_rows(rows)
    rows.write_text(json.dumps(row) + "\n" + '{"part": "st')  # a killed process leaves half a row
    publish.store_gpu_rows(rows)
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["rows"] == [row]
    assert "| graph | serial |  |  | 2.00 [1.50, 2.50] |" in publish.TABLES["gpu"](results)
    few = row | {"num_pairs": 5, "ratios": [1.9, 2.0, 2.0, 2.0, 2.2]}
    assert "| 2.00 (1.90 to 2.20 in 5 pairs) |" in publish.TABLES["gpu"]({"rows": [few]})
