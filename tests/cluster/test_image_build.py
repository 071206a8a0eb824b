"""The Dockerfile's steps in a clean root: they install the project, which then runs as the image's user."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from image_root import ImageRoot, build
from small_audit import SMALL_OPTIONS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRoot]:
    if os.geteuid() or not shutil.which("debootstrap"):
        pytest.skip("needs root and debootstrap: make services")
    folder = tmp_path_factory.mktemp("image")
    yield build(folder)
    shutil.rmtree(folder)  # several gigabytes


def test_the_installed_package_is_imported(image: ImageRoot) -> None:
    place = image.run("python -c 'import ungan_dist; print(ungan_dist.__file__)'")
    assert place.strip().endswith("site-packages/ungan_dist/__init__.py")
    assert image.run("id -u").strip() == "1000"
    assert image.variables["RAY_AUTH_MODE"] == "token"


def test_an_audit_runs_as_the_images_user(image: ImageRoot, tmp_path: Path) -> None:
    image.run(f"ungan-dist run digits {' '.join(SMALL_OPTIONS)}")
    table = json.loads((image.folder / "home/ray/runs/run/table.json").read_bytes())
    assert table["status"] == "COMPLETE"


def test_the_manifests_are_in_the_package(image: ImageRoot) -> None:
    made = image.run("ungan-dist manifest kuberay paper --gpus 1 --image registry.example.com/ungan-dist:2.60.0")
    assert "kind: RayJob" in made
