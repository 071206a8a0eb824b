"""The notebook of the documentation runs, and the page shows what it printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process
pytest.importorskip("nbconvert")
sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


def without_numbers(outputs: list[Any]) -> list[tuple[str, list[str], str]]:
    """Kinds and words of a cell's outputs; the last digits may differ between processors."""
    return [
        (
            output.output_type,
            sorted(output.get("data", {})),
            re.sub(r"[+−-]?\d[\d.]*|NaN", "", output.get("data", {}).get("text/html", output.get("text", ""))),
        )
        for output in outputs
    ]


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("default")  # those of Jupyter are not ours
def test_the_notebook_runs_and_its_stored_outputs_are_those_of_its_code(tmp_path: Path) -> None:
    import nbformat
    import notebook

    stored = nbformat.read(notebook.NOTEBOOK, as_version=4)
    # a process of its own: Jupyter leaves sockets open, and Python would blame the test that runs when it collects them
    command = [sys.executable, notebook.__file__, "--to", str(tmp_path / "done.ipynb")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=380)
    assert not ran.returncode, ran.stderr
    done = nbformat.read(tmp_path / "done.ipynb", as_version=4)
    code = [
        (before, after) for before, after in zip(stored.cells, done.cells, strict=True) if after.cell_type == "code"
    ]
    assert sum("image/png" in output.get("data", {}) for _, cell in code for output in cell.outputs) == 3
    for before, after in code:
        assert after.execution_count
        assert without_numbers(before.outputs) == without_numbers(after.outputs)


@pytest.mark.filterwarnings("default")
def test_the_page_and_its_figures_are_those_of_the_notebook() -> None:
    import nbformat
    import notebook

    files = notebook.render(nbformat.read(notebook.NOTEBOOK, as_version=4))
    assert {path: path.read_bytes() for path in files} == files
    figures = [path for path in files if path.suffix == ".png"]
    assert len(figures) == 3
    assert set(notebook.PAGE.parent.glob("assets/notebook/*")) == set(figures)
