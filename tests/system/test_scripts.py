"""Audits from Python scripts: no main guard is needed, and a factory in the script itself is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ungan_dist.config.training import ModelConfig

_SCRIPT = """
import sys
sys.path.insert(0, {helpers!r})
from small_audit import small_config
import ungan_dist
open("started", "a").write("once\\n")
report = ungan_dist.audit(small_config("out", methods=("original", "retrain")))
print(report.status, [row.title for row in report.rows])
"""


@pytest.mark.process
@pytest.mark.parametrize("how", ["script", "stdin"])
def test_an_audit_needs_no_main_guard(tmp_path: Path, how: str) -> None:
    code = _SCRIPT.format(helpers=str(Path(__file__).parents[1] / "helpers"))
    (tmp_path / "script.py").write_text(code)
    words = [sys.executable, "script.py" if how == "script" else "-"]
    done = subprocess.run(
        words, cwd=tmp_path, input=code if how == "stdin" else "", capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "COMPLETE ['Original', 'Retrain']\n"), done.stderr
    assert (tmp_path / "started").read_text() == "once\n"  # the workers did not run the script


def test_a_factory_in_the_script_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"file of its own beside it, such as models\.py, and write models:build"):
        ModelConfig(factory="__main__:build")
