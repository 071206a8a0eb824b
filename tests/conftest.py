"""Settings of all tests: one torch thread, shape checks, hypothesis without a deadline; one shared finished run."""

from __future__ import annotations

import collections
import ctypes
import functools
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings
from jaxtyping import install_import_hook

SELECTED = "not (process or ray or bench or chaos)"
"""The selection of `make test`."""


def has_cuda_device() -> bool:
    """Query the driver, because querying torch would import Triton."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


if not has_cuda_device():
    # Triton reads this when torch first imports it: fused kernels run in its interpreter.
    os.environ.setdefault("TRITON_INTERPRET", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads this at import; the last bits depend on it

ROOT = Path(__file__).parents[1]


def list_modules_with_shapes() -> list[str]:
    """List the modules whose functions state shapes; checking all others too takes a seventh of the tests' time."""
    rooms = (ROOT / "ungan_dist" / name for name in ("", "cluster", "kernels"))
    files = sorted({path for room in rooms for path in room.rglob("*.py")} - {ROOT / "ungan_dist/__init__.py"})
    stating = (path.relative_to(ROOT) for path in files if "from jaxtyping import" in path.read_text())
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in stating]


# Modules that are imported before the hook stay unchecked.
install_import_hook(list_modules_with_shapes(), "shape_checks.checked")

settings.register_profile("ungan_dist", deadline=None, max_examples=50)
settings.load_profile("ungan_dist")


@functools.cache
def name_group(file: Path) -> str:
    """Name the tests that run in one process: those of a file, or all that use the session's Ray cluster."""
    return "ray_cluster" if "ray_cluster" in file.read_text() else str(file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the files that share the session's Ray cluster in one process, so that there is one such cluster.

    The groups of ``--dist loadgroup`` would state this too, but pytest-xdist 3.8 sets them on an attribute that
    pytest 9.2 does not read.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return name_group(config.rootpath / super()._split_scope(nodeid))

    if config.option.dist != "loadfile":
        return None
    config.option.loadscopereorder = False  # the order of pytest_collection_modifyitems is better
    return Scheduler(config, log)


SECONDS = {"ray": 10.0, "bench": 5.0, "process": 3.0}
"""Marker → what one of its tests takes, roughly; the others take .2."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest groups first where processes share the tests, so that none is left with one at the end."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    seconds = collections.Counter[str]()
    for item in items:
        markers = (SECONDS.get(marker.name, 0.2) for marker in item.iter_markers())
        seconds[name_group(item.path)] += max(markers, default=0.2)
    items.sort(key=lambda item: -seconds[name_group(item.path)])


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End a run of `make test` with one line on what ran and where the other tests are."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter and config.option.markexpr == SELECTED and not config.option.collectonly:
        num_run = sum(len(reporter.stats.get(outcome, ())) for outcome in ("passed", "failed", "error"))
        reporter.write_line(
            f"{num_run} tests run, each in one process. With Ray, several processes and faults: make test-all"
        )


@pytest.fixture(autouse=True)
def models_are_built_in_this_process_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's model is not built in a process of its own first, which takes seconds, except where that is tested."""
    if "ungan_dist.training.probing" in sys.modules:
        monkeypatch.setattr("ungan_dist.training.probing.run_in_process", lambda *_, **__: None)


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports written by this process have no figures: drawing them takes most of a small audit's time."""
    monkeypatch.setattr("ungan_dist.report.figures.draw_figures", lambda _: [])


@pytest.fixture(scope="session")
def drawn() -> dict[bytes, Any]:
    """Figures that this process has drawn, by the report's content."""
    return {}


@pytest.fixture
def figures_are_drawn_once(monkeypatch: pytest.MonkeyPatch, drawn: dict[bytes, Any]) -> None:
    """Draw the figures of equal reports once: drawing them takes most of a small audit's time."""
    from ungan_dist.report import figures

    draw = figures.draw_figures

    def draw_or_repeat(report: Any) -> Any:
        content = pickle.dumps(report)
        if content not in drawn:
            drawn[content] = draw(report)
        return drawn[content]

    monkeypatch.setattr(figures, "draw_figures", draw_or_repeat)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of the finished small audit, which all workers share: read it, and change only copies."""
    from in_process import InProcess
    from small_audit import small_config

    from ungan_dist.runs.pipeline import audit

    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    with FileLock(session / "finished.lock"):
        if not (session / "finished").exists():
            audit(small_config(session / "unfinished"), run_units=InProcess())
            (session / "unfinished").rename(session / "finished")
    return session / "finished"


@pytest.fixture
def output(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run's output folder."""
    return shutil.copytree(finished_run, tmp_path / "out")


@pytest.fixture
def compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the interpreter, as in production."""
    triton = pytest.importorskip("triton")
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
