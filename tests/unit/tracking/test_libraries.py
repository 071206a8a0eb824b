"""Each tracker against its real library: what was sent is what the library reads back."""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import InProcess, run_command
from small_audit import SMALL_OPTIONS

from ungan_dist import store
from ungan_dist.commands.export import read_report
from ungan_dist.runs.pool import LocalPool

pytestmark = pytest.mark.usefixtures("without_figures")
Points = dict[str, list[tuple[int, float]]]
"""Step and value of every number that was logged, by name."""


def read_tensorboard(output: Path) -> tuple[Points, dict[str, str], str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(output / "run/tensorboard"), size_guidance={"tensors": 0, "scalars": 0})
    found.Reload()
    points = {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}
    texts = {
        name.removesuffix("/text_summary"): found.Tensors(name)[-1].tensor_proto.string_val[0].decode()
        for name in found.Tags()["tensors"]
    }
    return points, texts, texts["report"]


def read_mlflow(output: Path) -> tuple[Points, dict[str, str], str]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(output / "mlruns").as_uri())
    [experiment] = [one for one in client.search_experiments() if one.name == "ungan_dist"]
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    points = {
        name: sorted((one.step, one.value) for one in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }
    names = {one.path for one in client.list_artifacts(run.info.run_id)}
    assert names == {"config.json", "report.html", "table.md", "table.json"}
    path = Path(client.download_artifacts(run.info.run_id, "table.md", str(output)))
    assert b"data:image" not in (output / "mlruns").glob("*/*/artifacts/report.html").__next__().read_bytes()
    return points, dict(run.data.tags), path.read_text()


def read_wandb(output: Path) -> tuple[Points, dict[str, str], str]:
    """Read the files that ``wandb sync`` uploads."""
    points: Points = {}
    texts: dict[str, str] = {}
    reports: list[str] = []
    ids: set[str] = set()
    for path in sorted(output.glob("wandb/offline-run-*/*.wandb")):
        for record in list_records(path.read_bytes()):
            ids |= {record.run.run_id} - {""}
            items = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            step = items.get("epoch", items.get("report"))
            for name, value in items.items():
                if name not in ("epoch", "report") and not name.startswith("_"):
                    points.setdefault(name, []).append((step, value))
            for item in record.summary.update:
                texts[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
            for artifact in (record.artifact, record.request.log_artifact.artifact):
                reports += [one.local_path for one in artifact.manifest.contents if one.path == "table.md"]
                assert not any(b"data:image" in Path(one.local_path).read_bytes() for one in artifact.manifest.contents)
    assert len(ids) == 1, "a resumed run is the same run"
    assert len(list(output.glob("wandb/offline-run-*"))) == 2, "the third command had nothing to log"
    [report] = reports
    return points, texts, Path(report).read_text()


def list_records(content: bytes) -> Iterator[Any]:
    """Decode W&B's log: its header, then LevelDB's blocks of 32 KiB with records in parts."""
    from wandb.proto import wandb_internal_pb2

    assert content.startswith(b":W&B")
    place, whole = 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, size, part = struct.unpack("<IHB", content[place : place + 7])
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if part in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


READERS: dict[str, Callable[[Path], tuple[Points, dict[str, str], str]]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "wandb": read_wandb,
}


@pytest.mark.filterwarnings("default")  # those of the libraries are not ours
@pytest.mark.parametrize("name", READERS)
def test_the_library_reads_back_each_number_once(output: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed: pip install 'ungan-dist[{name}]'")
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    for method in ("retrain", "ungan"):
        (output / f"run/results/0/{method}.json").unlink()
    interrupted, whole = InProcess(interrupted_after=1), InProcess()
    command = ("run", "digits", *SMALL_OPTIONS, "--output", output, "--tracking", name)
    for execute, code in ((interrupted, 3), (whole, 0), (whole, 0)):
        monkeypatch.setattr(LocalPool, "run_units", lambda pool, units, execute=execute: execute(units))
        done = run_command(*command)
        assert done.returncode == code, done.stderr
        assert "failed" not in done.stderr
    assert [unit.title for unit in whole.units] == ["ungan, seed 0"]
    report, (points, texts, table) = read_report(output / "run"), READERS[name](output)
    [ungan] = [row for row in report.rows if row.method == "ungan"]
    curves = {
        f"{method}/seed 0/{loss}": values
        for method in ("original", "retrain", "ungan")
        for loss, values in store.read_marker(output / f"run/results/0/{method}.json")["facts"]["curves"].items()
    }
    assert len(curves) > 3
    for curve, values in curves.items():
        assert [step for step, _ in points[curve]] == list(range(1, len(values) + 1))
        assert [value for _, value in points[curve]] == pytest.approx(values, rel=1e-6)
    for number, value in (("auc/ungan", ungan.auc.mean), ("auc_loss/ungan", ungan.attacks["loss"].auc.mean)):
        assert points[number] == [(0, pytest.approx(value, rel=1e-6))]
    assert texts["verdict/ungan"] == ungan.verdict.outcome
    assert table.strip() == (output / "run/table.md").read_text().strip()
