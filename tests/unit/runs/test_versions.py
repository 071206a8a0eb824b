"""What a result's versions record."""

from __future__ import annotations

from pathlib import Path

from ungan_dist import store
from ungan_dist.runs.versions import read_driver_version, versions

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024"


def test_the_drivers_version_is_read_from_the_kernel(tmp_path: Path) -> None:
    for text, version in ((OPEN, "580.65.06"), (CLOSED, "535.183.01"), ("nothing", "unknown")):
        (tmp_path / "version").write_text(text + "\nGCC version: gcc 12.3.0\n")
        assert read_driver_version(tmp_path / "version") == version
    assert read_driver_version(tmp_path / "absent") == "unknown"


def test_every_result_has_its_versions_precision_and_format(finished_run: Path) -> None:
    for marker in (*finished_run.glob("shadows/*.json"), *finished_run.glob("run/results/*/*.json")):
        recorded = store.read_marker(marker)["facts"]["versions"]
        assert versions().items() <= recorded.items()
        assert (recorded["precision"], recorded["memory format"]) == ("fp32", "auto")
    page = (finished_run / "run/report.html").read_text()
    assert all(name in page for name in ("triton", "precision", "memory format"))
