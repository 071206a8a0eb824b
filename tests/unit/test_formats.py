"""No file is read by a format that can execute code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    {path.resolve() for name in ("ungan_dist", "kernels", "cluster") for path in (ROOT / name).rglob("*.py")}
)
PIPES = "ungan_dist/worker_process.py"
"""Exchanges pickles with the processes that it starts, through pipes, never by files."""
EXECUTING = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "dill.load", "dill.loads", "cloudpickle.load"),
    *("cloudpickle.loads", "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "pandas.read_pickle"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.jit.load", "torch.package", "eval", "exec"),
    *("compile", "runpy.run_path", "runpy.run_module", "numpy.lib.format.read_array", "torch.hub.load"),
}
SAFE = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "np.load": ("allow_pickle", False),
}


def find_unsafe(source: str) -> Iterator[str]:
    """Yield the calls that may execute what they read."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name in EXECUTING:
            yield f"{node.lineno}: {name}"
        if name in SAFE:
            option, value = SAFE[name]
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if given.get(option) != str(value):
                yield f"{node.lineno}: {name} without {option}={value}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_reads_a_format_that_executes_code(path: Path) -> None:
    found = list(find_unsafe(path.read_text()))
    if str(path.relative_to(ROOT)) == PIPES:
        assert [one.partition(": ")[2] for one in found] == ["pickle.loads"] * 3
    else:
        assert not found


@pytest.mark.parametrize(
    "call",
    [
        *("pickle.load(file)", "torch.load(path)", "torch.load(path, weights_only=False)", "np.load(path)"),
        *("np.load(path, allow_pickle=True)", "yaml.load(text)", "eval(text)"),
    ],
)
def test_an_unsafe_call_is_found(call: str) -> None:
    assert len(list(find_unsafe(f"def read():\n    return {call}\n"))) == 1
