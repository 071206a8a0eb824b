"""Execute docs/notebook.ipynb and write it as a page of the documentation.

    python benchmarks/notebook.py           # execute, and write the notebook, docs/notebook.md and its figures
    python benchmarks/notebook.py --check   # fail if the page is not the one of the stored notebook
    python benchmarks/notebook.py --to FILE # execute, and write the notebook to FILE alone

Outputs and figures come from the execution. They are not edited.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs/notebook.ipynb"
PAGE = ROOT / "docs/notebook.md"
FIGURES = Path("assets/notebook")
NOTE = (
    "<!-- Written by benchmarks/notebook.py, which executes docs/notebook.ipynb. Edit the notebook, not this page. "
    "-->\n\n"
)


def execute(notebook: Any, folder: Path) -> Any:
    """Execute a notebook in a folder; an error of a cell is raised.

    Returns:
        The notebook with its outputs, and without what differs between two machines.
    """
    done = nbformat.from_dict(notebook)
    # sockets of TCP would be open to every user of the machine
    manager = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{folder}/kernel")
    NotebookClient(
        done, km=manager, timeout=300, startup_timeout=300, resources={"metadata": {"path": str(folder)}}
    ).execute()
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    done.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in done.cells:
        cell.metadata = {}
    return done


def render(notebook: Any) -> dict[Path, bytes]:
    """Render the page and its figures, by path."""
    text, resources = MarkdownExporter().from_notebook_node(notebook)
    figures = {f"figure-{number}.png": content for number, content in enumerate(resources["outputs"].values(), start=1)}
    for name, old in zip(figures, resources["outputs"], strict=True):
        text = text.replace(f"![png]({old})", f"![Figure of the cell above]({FIGURES / name})")
    text = re.sub(r"<style scoped>.*?</style>\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip() + "\n"
    return {PAGE: (NOTE + text).encode(), **{PAGE.parent / FIGURES / name: found for name, found in figures.items()}}


def main() -> None:
    """Execute and write, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true")
    how.add_argument("--to", type=Path, metavar="FILE")
    asked = parser.parse_args()
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if asked.check:
        stale = [
            path for path, content in render(notebook).items() if not path.is_file() or path.read_bytes() != content
        ]
        if stale:
            names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
            raise SystemExit(f"out of date: {names}. Run: python benchmarks/notebook.py")
        return
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(notebook, Path(folder))
    nbformat.write(notebook, asked.to or NOTEBOOK)
    if asked.to:
        return
    for path, content in render(notebook).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
