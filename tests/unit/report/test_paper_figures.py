"""Figures for papers: PNG and PDF of a column's width."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from in_process import assert_refused, run_command
from PIL import Image
from synthetic_report import make_report

from ungan_dist.config.attack import ReportConfig
from ungan_dist.report import figures, render


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the overview and the log-odds, which are enough and take half of the time."""
    monkeypatch.setattr(figures, "_roc", lambda *_: [])
    monkeypatch.setattr(figures, "draw_roc_of_methods", lambda *_: [])
    monkeypatch.setattr(figures, "_curves", lambda *_: [])


@pytest.fixture
def overview_alone(few_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_log_odds", lambda *_: [])


def test_figures_have_the_width_of_a_column_or_of_a_page(few_figures: None) -> None:
    files = render(make_report(1, methods=("original", "fine_tuning")), paper=("png", "pdf"))
    names = {name.removesuffix(".svg") for name in files if name.endswith(".svg")}
    assert len(names) == 4
    for name in names:
        width = 6.75 if name in ("figures/forest", "figures/utility") else 3.25
        with Image.open(io.BytesIO(files[f"{name}.png"])) as picture:
            assert picture.width == pytest.approx(300 * width, abs=1)
            assert picture.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        [box] = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", files[f"{name}.pdf"])
        assert float(box) == pytest.approx(72 * width, abs=0.5)
        assert b"/Type3" not in files[f"{name}.pdf"]


def test_the_same_report_gives_the_same_bytes(overview_alone: None) -> None:
    first, again = (render(make_report(1, methods=("original",)), paper=("pdf", "png")) for _ in range(2))
    assert {"figures/forest.png", "figures/forest.pdf"} <= set(first)
    assert first == again


def test_a_finished_run_gets_figures_which_a_purge_keeps(output: Path, overview_alone: None) -> None:
    run = output / "run"
    done = run_command("report", run, "--figures", "pdf")
    assert done.returncode == 0, done.stderr
    assert (run / "figures/forest.pdf").read_bytes().startswith(b"%PDF")
    assert not list(run.glob("figures/*.png"))
    (run / "figures/mine.pdf").write_bytes(b"%PDF-1.4")
    assert run_command("verify", run).returncode == 0
    assert run_command("purge", run).returncode == 0
    assert (run / "figures/forest.pdf").exists()
    assert not (run / "figures/mine.pdf").exists(), "no marker has its hash"


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    assert_refused(run_command("report", tmp_path, "--figures", "gif"), "png, pdf", "gif")
    with pytest.raises(ValueError, match="png, pdf"):
        ReportConfig(figures=("gif",))
