"""The choice of a loader changes no bit and no id; FFCV's file is checked, and rebuilt on request."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from in_process import InProcess, assert_refused, run_command
from PIL import Image
from small_audit import SMALL_OPTIONS, small_config

from ungan_dist.config.audit import AuditConfig
from ungan_dist.config.data import DataConfig, SourceConfig, SplitConfig
from ungan_dist.config.execution import ExecutionConfig
from ungan_dist.config.recipes import cifar10_small
from ungan_dist.config.training import ModelConfig, ShadowConfig
from ungan_dist.data import loader_choice
from ungan_dist.data.ffcv.file import BetonLocation, prepare_beton, read_beton
from ungan_dist.data.loader_choice import choose_num_threads, resolve_loader
from ungan_dist.data.memory import get_memory_limit, read_cgroup_limits
from ungan_dist.data.prepared import open_examples, prepare
from ungan_dist.data.sources.source import load_source
from ungan_dist.errors import ConfigError
from ungan_dist.runs.pipeline import audit

needs_ffcv = pytest.mark.skipif(not find_spec("ffcv"), reason="FFCV is not installed")

CIFAR = Path(os.environ.get("CIFAR10_PARQUET", Path(__file__).parents[3] / "../shared/data/cifar10-jpeg"))


def results(config: AuditConfig) -> dict[str, bytes]:
    """Return table, log-odds and weights of all models of a finished run, by name."""
    # FFCV compiles in processes of the pool, because other tests may have compiled for other arrays in this one
    audit(config, run_units=InProcess() if config.data.loader == "resident" else None)
    output = Path(config.output)
    kept = [*output.glob("run/table.json"), *output.glob("**/*.npy"), *output.glob("**/*.safetensors")]
    return {str(path.relative_to(output)): path.read_bytes() for path in kept if "data" not in path.parts}


def agree(resident: AuditConfig, in_file: AuditConfig) -> None:
    """Bits and ids are equal, and a run finished with one loader is complete for the other."""
    expected, found = results(resident), results(in_file)
    assert sorted(found) == sorted(expected)
    assert any(name.endswith("table.json") for name in found)
    for name, content in expected.items():
        assert found[name] == content, name
    assert not list(Path(in_file.output).glob("data/*/images.npy"))
    assert not list(Path(resident.output).glob("data/*/data.beton"))
    times = {path: path.stat().st_mtime_ns for path in Path(in_file.output).glob("shadows/*")}
    audit(dataclasses.replace(in_file, data=resident.data))
    assert times == {path: path.stat().st_mtime_ns for path in Path(in_file.output).glob("shadows/*")}


def with_loader(config: AuditConfig, loader: str, output: Path) -> AuditConfig:
    return dataclasses.replace(config, data=DataConfig(loader=loader), output=str(output / loader))  # pyright: ignore


@needs_ffcv
@pytest.mark.timeout(300)
@pytest.mark.process
def test_digits_have_the_same_table_with_either_loader(tmp_path: Path) -> None:
    config = small_config(tmp_path, execution=ExecutionConfig(num_processes=1, progress="none", run_name="run"))
    config = dataclasses.replace(config, methods=("original", "adv_neg_grads", "unsir", "ungan"))
    agree(*(with_loader(config, loader, tmp_path) for loader in ("resident", "ffcv")))


@needs_ffcv
@pytest.mark.timeout(300)
@pytest.mark.process
def test_cifar10_small_has_the_same_table_with_either_loader(tmp_path: Path) -> None:
    """The recipe is reduced to a few hundred pictures, three epochs and four shadow models."""
    if not CIFAR.is_dir():
        pytest.skip(f"{CIFAR} is absent: name a folder of CIFAR-10 as Parquet by CIFAR10_PARQUET")
    (tmp_path / "cifar").mkdir()
    for name, count in (("train", 700), ("test", 100)):
        pq.write_table(pq.read_table(CIFAR / f"{name}.parquet").slice(0, count), tmp_path / f"cifar/{name}.parquet")
    recipe = cifar10_small()
    config = dataclasses.replace(
        recipe,
        source=dataclasses.replace(recipe.source, path=str(tmp_path / "cifar")),
        split=SplitConfig(train=300, shadow_pool=300, unseen=100, forget_fraction=0.2),
        model=ModelConfig(width=4),
        train=dataclasses.replace(recipe.train, epochs=3),
        shadows=ShadowConfig(num_models=4, unit_size=2, queries=("plain", "flip")),
        attack=dataclasses.replace(recipe.attack, num_resamples=100),
        methods=("original", "retrain", "ungan"),
        execution=ExecutionConfig(num_processes=1, progress="none", run_name="run"),
    )
    agree(*(with_loader(config, loader, tmp_path) for loader in ("resident", "ffcv")))


@needs_ffcv
@pytest.mark.parametrize(("quality", "subsampling"), [(75, 2), (90, 0)])
def test_large_jpegs_are_stored_as_files_without_loss(tmp_path: Path, quality: int, subsampling: int) -> None:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            small = Image.fromarray(generator.integers(0, 256, (9, 12, 3), dtype=np.uint8))
            picture = small.resize((160, 130), Image.Resampling.BICUBIC)
            if number:
                picture.save(tmp_path / "data" / name / f"{number}.jpg", quality=quality, subsampling=subsampling)
            else:
                picture.save(tmp_path / "data" / name / f"{number}.png")
    source = load_source(SourceConfig(kind="image_folder", path=str(tmp_path / "data")))
    resident, in_file = (prepare(source, tmp_path, loader=loader) for loader in ("resident", "ffcv"))
    beton, facts = read_beton(in_file.beton)
    assert beton.is_jpeg.tolist() == [False, True, True, False, True, True]
    assert facts["num_jpegs"] == 4
    indices = open_examples(resident, "cpu").labels.argsort()
    from ungan_dist.data.examples import gather

    expected = gather(open_examples(resident, "cpu"), indices)
    assert (gather(open_examples(in_file, "cpu"), indices) == expected).all()


@needs_ffcv
def test_a_jpeg_that_does_not_decode_to_the_pixels_is_not_kept(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    images = np.random.default_rng(0).integers(0, 256, (2, 130, 130, 3), dtype=np.uint8)
    Image.fromarray(images[0]).save(buffer, "JPEG")
    decoded = np.asarray(Image.open(io.BytesIO(buffer.getvalue())))
    images[0] = decoded
    images[1] = decoded
    images[1, 0, 0, 0] ^= 1
    digits = load_source(SourceConfig())
    source = dataclasses.replace(
        digits, images=images, labels=np.arange(2), mean=(0.5,) * 3, std=(0.5,) * 3, jpegs=(buffer.getvalue(),) * 2
    )
    place = BetonLocation(output=tmp_path, data_hash=source.content_hash)
    prepare_beton(source, place)
    beton, _ = read_beton(place)
    assert beton.is_jpeg.tolist() == [True, False]


def test_auto_is_resident_up_to_a_quarter_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_choice, "get_memory_limit", lambda device: 4000)
    monkeypatch.setattr(loader_choice, "find_import_error", lambda: None)
    assert resolve_loader("auto", 1000, "cpu") == ("resident", None)
    assert resolve_loader("auto", 1001, "cpu") == ("ffcv", None)
    assert resolve_loader("ffcv", 1, "cpu") == ("ffcv", None)
    assert resolve_loader("resident", 10**12, "cpu") == ("resident", None)


def test_the_memory_limit_is_at_most_the_machines_memory() -> None:
    stated = int(re.findall(r"MemTotal: *(\d+) kB", Path("/proc/meminfo").read_text())[0]) * 1024
    assert 0 < get_memory_limit("cpu") <= stated * 1.1


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "700", "a/memory.max": "max", "memory.max": "900"}, [700, 900]),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "500\n"}, [500]),
        ("0::/\n", {"memory.max": "300"}, [300]),
        ("0::/elsewhere/above\n", {"memory.max": "300"}, [300]),
        ("0::/../sibling\n", {"memory.max": "300", "sibling/memory.max": "200"}, [300, 200]),
        (
            "4:memory:/job/task\n2:cpu,cpuacct:/job\n0::/\n",
            {
                "memory/job/task/memory.limit_in_bytes": "9223372036854771712",
                "memory/job/memory.limit_in_bytes": "400",
                "memory.limit_in_bytes": "1",
            },
            [400, 9223372036854771712],
        ),
        ("2:cpu:/job\n", {"job/memory.max": "5"}, []),
        ("", {}, []),
    ],
)
def test_limits_of_control_groups(tmp_path: Path, membership: str, limits: dict[str, str], expected: list[int]) -> None:
    (tmp_path / "membership").write_text(membership)
    for name, stated in limits.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(stated)
    found = read_cgroup_limits(tmp_path / "membership", tmp_path / "tree")
    assert sorted(limit for limit, _ in found) == sorted(expected)
    assert list(read_cgroup_limits(tmp_path / "absent", tmp_path / "tree")) == []


def test_threads_for_reading() -> None:
    assert choose_num_threads(None, "cpu") == 1
    assert choose_num_threads(3, "cpu") == 3
    assert choose_num_threads(None, "cuda") >= 1


def test_without_ffcv_auto_reports_it_and_ffcv_names_the_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ffcv", None)  # as Python marks a package that cannot be imported
    assert resolve_loader("auto", 10, "cpu") == ("resident", None)
    with pytest.raises(ConfigError, match=r"libturbojpeg0-dev.*ungan_dist\[ffcv\]"):
        resolve_loader("ffcv", 10, "cpu")
    monkeypatch.setattr(loader_choice, "get_memory_limit", lambda device: 1000)
    config = small_config(tmp_path, methods=("original",))
    with pytest.warns(UserWarning, match="libturbojpeg0-dev") as told:
        audit(config, run_units=InProcess())
    assert len(told) == 1
    assert (tmp_path / "run" / "table.json").exists()


def test_prepare_writes_once_and_rebuilds_a_damaged_file(tmp_path: Path) -> None:
    written = run_command("prepare", "digits", "--output", tmp_path)
    assert written.returncode == 0, written.stderr
    (path,) = tmp_path.glob("data/*/data.beton")
    assert str(path) in written.stdout
    assert "1,797" in written.stdout
    content, stamp = path.read_bytes(), path.stat().st_mtime_ns
    manifest = json.loads((path.parent / "beton.json").read_text())
    assert manifest["files"] == {str(path.relative_to(tmp_path)): hashlib.sha256(content).hexdigest()}
    assert run_command("prepare", "digits", "--output", tmp_path).returncode == 0
    assert path.stat().st_mtime_ns == stamp

    path.write_bytes(content[:-100])
    assert_refused(run_command("prepare", "digits", "--output", tmp_path), str(path), "--rebuild")
    assert run_command("prepare", "digits", "--output", tmp_path, "--rebuild").returncode == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize(("length", "bit"), [(0, None), (1000, None), (-1, None), (0, 0), (0, 3000 * 8)])
def test_a_damaged_file_is_replaced_only_with_rebuild(tmp_path: Path, length: int, bit: int | None) -> None:
    source = load_source(SourceConfig())
    place = BetonLocation(output=tmp_path, data_hash=source.content_hash)
    prepare_beton(source, place)
    content = place.path.read_bytes()
    damaged = bytearray(content if bit is not None else content[:length])
    if bit is not None:
        damaged[bit // 8] ^= 1
    place.path.write_bytes(damaged)
    with pytest.raises(ConfigError, match="ungan-dist prepare RECIPE --rebuild"):
        prepare_beton(source, place)
    assert place.path.read_bytes() == damaged
    prepare_beton(source, place, rebuild=True)
    assert place.path.read_bytes() == content


@pytest.mark.process
def test_prepare_removes_files_of_a_killed_prepare(tmp_path: Path) -> None:
    code = f"""
        import os, signal
        from pathlib import Path
        from ungan_dist.data.ffcv.file import BetonLocation, prepare_beton
        from ungan_dist.config.data import SourceConfig
        from ungan_dist.data.sources.source import load_source
        source = load_source(SourceConfig())
        os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)
        prepare_beton(source, BetonLocation(output=Path({str(tmp_path)!r}), data_hash=source.content_hash))
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=Path(__file__).parents[3])
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob(".data.beton.*.tmp"))) == 1
    source = load_source(SourceConfig())
    place = BetonLocation(output=tmp_path, data_hash=source.content_hash)
    prepare_beton(source, place)
    read_beton(place)
    assert sorted(path.name for path in place.path.parent.iterdir()) == ["beton.json", "data.beton"]


def test_a_folder_at_the_files_path_is_named(tmp_path: Path) -> None:
    source = load_source(SourceConfig())
    place = BetonLocation(output=tmp_path, data_hash=source.content_hash)
    prepare_beton(source, place)
    place.path.unlink()
    place.path.mkdir()
    for attempt in (
        lambda: prepare_beton(source, place),
        lambda: prepare_beton(source, place, rebuild=True),
        lambda: read_beton(place),
    ):
        with pytest.raises(ConfigError, match=r"data\.beton is a folder .* remove it"):
            attempt()


@needs_ffcv
def test_a_run_refuses_a_damaged_file_and_computes_nothing(tmp_path: Path) -> None:
    options = [*SMALL_OPTIONS, "--output", tmp_path, "--data.loader", "ffcv"]
    run_command("prepare", "digits", "--output", tmp_path)
    (path,) = tmp_path.glob("data/*/data.beton")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_refused(run_command("run", "digits", *options), str(path), "ungan-dist prepare RECIPE --rebuild")
    assert not list(tmp_path.glob("**/*.safetensors"))


def test_prepare_has_help_and_refuses_wrong_options(tmp_path: Path) -> None:
    assert "--rebuild" in run_command("prepare", "--help").stdout
    assert "prepare" in run_command("--help").stdout
    assert_refused(run_command("prepare", "digitz"), "digitz", "cifar10-small")
    assert_refused(
        run_command("prepare", "digits", "--source.kind", "parquet", "--source.path", "/nowhere"), "/nowhere"
    )
    (tmp_path / "file").write_text("in the way")
    assert_refused(run_command("prepare", "digits", "--output", tmp_path / "file"), "--output")
