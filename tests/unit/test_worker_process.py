"""Functions called in a process of their own: results, failures, deaths, time limits, and what the process inherits."""

from __future__ import annotations

import math
import operator
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from processes import alive

from ungan_dist.worker_process import CallFailed, WorkerDied, WorkerProcess, run_in_process


def test_a_result_comes_back_and_calls_share_one_process() -> None:
    worker = WorkerProcess()
    answers = []
    for arguments in ((3, 4), (5, 12)):
        worker.call(math.hypot, *arguments)
        answers.append(worker.receive())
    worker.call(os.getpid)
    assert worker.receive() == worker.pid
    worker.stop()
    assert answers == [5.0, 13.0]
    assert not alive(worker.pid)


@pytest.mark.parametrize(
    ("function", "arguments", "words"),
    [
        (operator.truediv, (1, 0), "ZeroDivisionError: division by zero"),
        (sys.exit, (3,), "SystemExit: 3"),
    ],
)
def test_an_exception_is_named_with_its_traceback(function: object, arguments: tuple[object], words: str) -> None:
    with pytest.raises(CallFailed) as failed:
        run_in_process(function, *arguments)  # pyright: ignore[reportArgumentType]
    assert str(failed.value) == words
    assert failed.value.traceback.startswith("Traceback")


@pytest.mark.parametrize(
    ("function", "argument", "code", "words"),
    [
        (signal.raise_signal, signal.SIGKILL, -9, "the process was killed (SIGKILL, often for lack of memory)"),
        (signal.raise_signal, signal.SIGTERM, -15, "the process was killed (SIGTERM)"),
        (signal.raise_signal, signal.SIGSEGV, -11, "the process crashed (SIGSEGV)"),
        (os._exit, 3, 3, "the process ended with exit code 3"),
    ],
)
def test_a_death_is_described(function: object, argument: int, code: int, words: str) -> None:
    with pytest.raises(WorkerDied) as died:
        run_in_process(function, argument)  # pyright: ignore[reportArgumentType]
    assert (died.value.code, str(died.value)) == (code, words)


def test_a_call_that_takes_too_long_ends_with_its_process() -> None:
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no result after 0\.5 s"):
        run_in_process(time.sleep, 60, timeout_s=0.5)
    assert time.monotonic() - start < 30


def test_the_process_inherits_path_environment_folder_and_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_beside_a_script.py").write_text("import warnings\ndef warn(): warnings.warn('raised')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNGAN_DIST_TEST", "inherited")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_in_process(os.getcwd) == str(tmp_path)
    assert run_in_process(os.getenv, "UNGAN_DIST_TEST") == "inherited"
    assert run_in_process(platform.python_version) == platform.python_version()
    import module_beside_a_script  # pyright: ignore[reportMissingImports]

    run_in_process(module_beside_a_script.warn)
    with warnings.catch_warnings():
        monkeypatch.setattr(sys, "warnoptions", ["error"])
        with pytest.raises(CallFailed, match="UserWarning: raised"):
            run_in_process(module_beside_a_script.warn)


@pytest.mark.parametrize("how", ["script", "stdin", "command"])
def test_a_script_needs_no_main_guard_and_its_output_stays_its_own(tmp_path: Path, how: str) -> None:
    code = "import math; from ungan_dist.worker_process import run_in_process\n"
    code += "print(run_in_process(math.hypot, 3, 4), run_in_process(print, 'not on stdout'))"
    (tmp_path / "script.py").write_text(code)
    words = {"script": ["script.py"], "stdin": ["-"], "command": ["-c", code]}[how]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, input=code if how == "stdin" else "", capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "5.0 None\n"), done.stderr


def test_no_process_outlives_a_killed_caller(tmp_path: Path) -> None:
    code = (
        "import time; from ungan_dist.worker_process import WorkerProcess\n"
        "worker = WorkerProcess(); worker.call(time.sleep, 600); print(worker.pid, flush=True); worker.receive()"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    assert alive(pid)
    caller.kill()
    caller.communicate()
    deadline = time.monotonic() + 20
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def test_an_interrupt_of_the_terminal_leaves_the_process_to_its_caller() -> None:
    # Ctrl-C signals every process of the group, also one that has only just started
    worker = WorkerProcess()
    os.kill(worker.pid, signal.SIGINT)
    worker.call(math.hypot, 3, 4)
    assert worker.receive() == 5.0
    os.kill(worker.pid, signal.SIGINT)
    worker.call(math.hypot, 3, 4)
    assert worker.receive() == 5.0
    worker.stop()
