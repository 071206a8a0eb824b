"""A purge finds the forget pictures in prepared data of every hash, however they are stored."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from damaged_records import rewrite_run
from PIL import Image
from small_audit import small_config

from ungan_dist import cli, store
from ungan_dist.config.audit import AuditConfig
from ungan_dist.data.copies import digest_pixels
from ungan_dist.data.ffcv.write import encode_beton_parts
from ungan_dist.data.prepared import prepare
from ungan_dist.data.sources.source import Source
from ungan_dist.errors import ConfigError
from ungan_dist.runs.plan import Plan, make_plan
from ungan_dist.runs.record import write_record
from ungan_dist.runs.upkeep import shared_files
from ungan_dist.runs.upkeep.forget_copies import ForgetPictures, collect_forget_pictures, holds_pictures
from ungan_dist.runs.upkeep.purge import plan_purge, purge


def begun(config: AuditConfig, name: str, **source: object) -> Plan:
    """A run as its driver leaves it at the start: its record and the prepared data."""
    config = replace(
        config,
        source=replace(config.source, **source),
        execution=replace(config.execution, run_name=name),
    )
    plan = make_plan(config)
    write_record(plan.folder, plan.record)
    prepare(plan.source, plan.folder.parent)
    return plan


def files(folder: Path, below: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in (folder / below).rglob("*") if path.is_file()}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Plan]:
    """An output folder with a run, another run on the same pictures, normalised otherwise, and its shadow models."""
    config = small_config(tmp_path)
    begun(config, "run")
    other = begun(config, "other", mean=(0.5,), std=(0.5,))
    shadow = {"shadows/abc.npy": store.array_bytes(np.zeros(3))}
    store.commit(tmp_path, "shadows/abc.json", id="abc", files=shadow, facts={"data": other.record.data_hash})
    return tmp_path, other


def test_pictures_of_another_run_under_another_hash_are_kept_and_named(
    two: tuple[Path, Plan], capfd: pytest.CaptureFixture[str]
) -> None:
    output, other = two
    place = f"data/{other.record.data_hash[:16]}"
    with pytest.raises(SystemExit) as ended:
        cli.main(["purge", str(output / "run")])
    assert ended.value.code == 3
    assert "other" in capfd.readouterr().err
    left = files(output, "data") | files(output, "shadows")
    assert left == {f"{place}/{name}" for name in ("images.npy", "labels.npy", "manifest.json")} | {
        *("shadows/abc.json", "shadows/abc.npy"),
    }
    assert set(store.read_json(output / "run/purged.json")["remaining"]) == left


def test_shared_removes_them_unless_an_active_run_uses_them(two: tuple[Path, Plan]) -> None:
    output, _ = two
    with store.run_lock(output / "other"), pytest.raises(ValueError, match=r"at work on .*other"):
        purge(output / "run", shared=True)
    before = {name: (output / name).read_bytes() for name in files(output, "other")}
    done = purge(output / "run", shared=True)
    assert before
    assert {name: (output / name).read_bytes() for name in files(output, "other")} == before
    assert (done.affected, done.complete) == (["other"], True)
    assert not files(output, "data") | files(output, "shadows")
    assert any("folders of other runs" in note and "other" in note for note in done.notes)


def test_unused_copies_are_removed(two: tuple[Path, Plan]) -> None:
    output, _ = two
    shutil.rmtree(output / "other")
    assert purge(output / "run").complete
    assert not files(output, "data") | files(output, "shadows")


def test_other_pictures_are_kept(two: tuple[Path, Plan]) -> None:
    output, other = two
    images = output / f"data/{other.record.data_hash[:16]}/images.npy"
    np.save(images, 255 - np.load(images))
    done = plan_purge(output / "run")
    assert done.complete
    assert not [name for name in done.removed if other.record.data_hash[:16] in name or "abc" in name]


def test_unreadable_files_are_reported_as_doubts(two: tuple[Path, Plan]) -> None:
    output, other = two
    folder = output / f"data/{other.record.data_hash[:16]}"
    (folder / "images.npy").write_bytes(b"no array")
    done = plan_purge(output / "run")
    assert not done.complete
    assert any(folder.name in doubt and "used by other" in doubt for doubt in done.doubts)
    shutil.rmtree(folder)
    assert any("shadow models trained on" in doubt for doubt in plan_purge(output / "run").doubts)


def test_without_the_source_the_forget_pictures_are_unknown_unless_found_before(
    two: tuple[Path, Plan], tmp_path_factory: pytest.TempPathFactory
) -> None:
    output, other = two
    gone = {"kind": "parquet"}
    fresh = shutil.copytree(output, tmp_path_factory.mktemp("fresh") / "runs")
    purge(output / "run")
    for place in (output, fresh):
        record = store.read_json(place / "run/config.json")
        record["identity"]["source"] |= gone
        rewrite_run(place / "run/config.json", identity=record["identity"], source_path=str(output / "gone"))
    unknown = plan_purge(fresh / "run")
    assert any("forget pictures are unknown" in doubt for doubt in unknown.doubts)
    known = plan_purge(output / "run")
    assert known.doubts == []
    assert any(other.record.data_hash[:16] in name for name in known.remaining)


def test_a_statement_does_not_hide_what_is_found(two: tuple[Path, Plan], capfd: pytest.CaptureFixture[str]) -> None:
    output, other = two
    name = other.record.data_hash[:16]
    found = plan_purge(output / "run", unrelated={name})
    assert [file for file in (*found.removed, *found.remaining) if name in file]
    with pytest.raises(SystemExit) as ended:
        cli.main(["purge", str(output / "run"), "--dry-run", "--unrelated", f"data/{name}, elsewhere"])
    assert ended.value.code == 2
    assert "no other data elsewhere" in capfd.readouterr().err


def test_examples_of_another_shape_are_a_doubt(
    two: tuple[Path, Plan], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    output, other = two
    shutil.rmtree(output / f"data/{other.record.data_hash[:16]}")
    shutil.rmtree(output / "shadows")
    scaled = begun(small_config(output), "scaled", resize=16)
    place = output / f"data/{scaled.record.data_hash[:16]}"
    with pytest.raises(SystemExit) as ended:
        cli.main(["purge", str(output / "run"), "--dry-run"])
    assert ended.value.code == 3
    assert f"{place} (used by scaled) could not be checked: its examples have another" in capfd.readouterr().err
    stated = plan_purge(output / "run", unrelated={place.name})
    assert stated.complete
    assert [note for note in stated.notes if place.name in note and "You stated" in note]
    assert not [name for name in stated.removed if place.name in name]
    with pytest.raises(ConfigError, match="no other data absent"):
        plan_purge(output / "run", unrelated={place.name, "absent"})
    monkeypatch.setitem(shared_files._PUBLIC, "digits", "others")
    assert not plan_purge(output / "run").complete  # the same kind is of the same people, whatever its name
    record = store.read_json(output / "scaled/config.json")
    record["identity"]["source"]["kind"] = "cifar10"
    rewrite_run(output / "scaled/config.json", identity=record["identity"])
    assert plan_purge(output / "run").complete
    purge(output / "run", unrelated={place.name})
    assert place.is_dir()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_are_compared_as_values_and_in_part_not_at_all(tmp_path: Path, dtype: type) -> None:
    rows = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    source = Source(
        images=rows, labels=np.arange(6), num_classes=6, class_names=(), title="", bundled=False, test=None,
        mean=(), std=(),
    )  # fmt: skip
    split, draw = SimpleNamespace(pool=np.arange(6)), SimpleNamespace(forget=np.array([4]))
    wanted = collect_forget_pictures(cast("Plan", SimpleNamespace(source=source, split=split, draws=[draw])))
    (tmp_path / "images.npy").write_bytes(store.array_bytes(rows.astype(dtype)))
    assert holds_pictures(tmp_path, wanted)
    (tmp_path / "images.npy").write_bytes(store.array_bytes(rows[:4].astype(dtype)))
    assert not holds_pictures(tmp_path, wanted)
    (tmp_path / "images.npy").write_bytes(store.array_bytes(np.insert(rows, 0, 7, 1).astype(dtype)))
    with pytest.raises(ValueError, match="another shape"):
        holds_pictures(tmp_path, wanted)
    assert not holds_pictures(tmp_path, wanted, is_other_source=True)


def jpeg_of(picture: np.ndarray) -> tuple[bytes, np.ndarray]:
    """A picture as a JPEG file, and the pixels that it gives back."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG")
    with Image.open(file) as opened:
        return file.getvalue(), np.asarray(opened)


@pytest.mark.parametrize("channels", [1, 3])
def test_records_of_ffcvs_file(tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, channels), dtype=np.uint8)
    labels = np.arange(6)
    wanted = pictures_of(images[4])
    (tmp_path / "data.beton").write_bytes(b"".join(encode_beton_parts(images, labels)))
    assert holds_pictures(tmp_path, wanted)
    (tmp_path / "data.beton").write_bytes(b"".join(encode_beton_parts(images[:4], labels[:4])))
    assert not holds_pictures(tmp_path, wanted)
    (tmp_path / "data.beton").write_bytes(b"short")
    with pytest.raises(ValueError, match="cannot hold"):
        holds_pictures(tmp_path, wanted)


def pictures_of(picture: np.ndarray, jpeg: bytes | None = None) -> ForgetPictures:
    return ForgetPictures(
        shape=picture.shape,
        pixels=frozenset({digest_pixels(picture.tobytes())}),
        jpegs=frozenset({digest_pixels(jpeg)} if jpeg else ()),
        all_from_jpegs=jpeg is not None,
    )


def test_jpeg_records_of_ffcvs_file(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    encoded, decoded = zip(*map(jpeg_of, pictures), strict=True)
    (tmp_path / "data.beton").write_bytes(b"".join(encode_beton_parts(np.stack(decoded), np.arange(6), encoded)))
    assert holds_pictures(tmp_path, pictures_of(decoded[4], encoded[4]))
    assert not holds_pictures(tmp_path, pictures_of(decoded[4], b"another file"))
    with pytest.raises(ValueError, match="holds JPEG files"):
        holds_pictures(tmp_path, pictures_of(decoded[4]))


def test_the_forget_sets_of_all_seeds_are_searched(tmp_path: Path) -> None:
    one = collect_forget_pictures(make_plan(small_config(tmp_path)))
    two = collect_forget_pictures(make_plan(small_config(tmp_path, num_seeds=2)))
    assert one.pixels < two.pixels
