"""Call functions in a process of their own, which does not import the caller's main module.

A script, a notebook and ``python -`` can therefore start such a process without ``if __name__ == "__main__":``. The
process starts from this file, which imports only the standard library: what a call needs is imported by unpickling it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import Any, NoReturn


class WorkerDied(Exception):
    """The process ended before it answered; the message is a sentence that says how."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the process {describe_exit(code)}")
        self.code = code
        """Exit code; the negative number of a signal."""


class CallFailed(Exception):
    """The function raised, or could not be loaded in the process; the message is ``Type: words``."""

    def __init__(self, message: str, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


@dataclass(frozen=True)
class Note:
    """Something that a function sends in the middle of its call."""

    content: Any


class WorkerProcess:
    """A process that calls one function after another. It ends with the process that started it."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        """Readable when an answer has arrived or the process has died; for ``multiprocessing.connection.wait``."""
        # The child inherits the blocked signal, and ignores it before it unblocks it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(
                [sys.executable, *_interpreter_flags(), "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._send([sys.path, sys.argv])

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, function: Callable[..., object], *arguments: object, with_notes: bool = False) -> None:
        """Start a call; the function and its arguments must be picklable, and not of the caller's main module.

        Args:
            function: The function.
            arguments: Its arguments.
            with_notes: Add a last argument, a function that sends a :class:`Note` in the middle of the call.
        """
        self._send((function, arguments, with_notes))

    def receive(self) -> Any:
        """Wait for the answer of the last call, or for a :class:`Note` before it.

        Raises:
            WorkerDied: The process ended without an answer.
            CallFailed: The function raised.
        """
        try:
            raised, *answer = pickle.loads(self.connection.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise WorkerDied(self._process.wait()) from None
        if raised:
            raise CallFailed(*answer)
        return Note(*answer) if raised is None else answer[0]

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        self.connection.close()

    def _send(self, content: object) -> None:
        # Plain pickle: torch's own reductions for connections would share memory with the process.
        message = pickle.dumps(content)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # receive() notices a dead process
            self.connection.send_bytes(message)


def run_in_process(function: Callable[..., Any], *arguments: object, timeout_s: float | None = None) -> Any:
    """Call a function once in a process of its own, and return its result.

    Args:
        function: A picklable function, not of the caller's main module.
        arguments: Its arguments.
        timeout_s: Seconds until the process is killed; defaults to no limit. Imports in the process count too.

    Raises:
        WorkerDied: The process ended without a result: it was killed, crashed or exited.
        CallFailed: The function raised.
        TimeoutError: There was no result in time.

    Examples:
        >>> import math
        >>> run_in_process(math.hypot, 3, 4)
        5.0
    """
    worker = WorkerProcess()
    try:
        worker.call(function, *arguments)
        if not worker.connection.poll(timeout_s):
            raise TimeoutError(f"no result after {timeout_s:g} s")
        return worker.receive()
    finally:
        worker.stop()


def describe_exit(code: int) -> str:
    """Describe an exit code, as the rest of a sentence.

    Examples:
        >>> describe_exit(-9)
        'was killed (SIGKILL, often for lack of memory)'
        >>> describe_exit(3)
        'ended with exit code 3'
    """
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    if code == -signal.SIGKILL:
        return f"was killed ({name}, often for lack of memory)"
    return f"was killed ({name})" if -code in KILLED_FROM_OUTSIDE else f"crashed ({name})"


KILLED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU, signal.SIGBUS)
"""Signals that somebody sends, or that a full disk raises under mapped memory. The others are crashes."""


def _interpreter_flags() -> list[str]:
    # -W, -X, -O and others, as multiprocessing passes them on
    return subprocess._args_from_interpreter_flags()  # pyright: ignore[reportAttributeAccessIssue]


def _serve(connection: Connection) -> NoReturn:
    """Answer calls until the starting process ends."""
    # Ctrl-C reaches every process of the terminal; only the starting process handles it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # stdout belongs to the command, whose answer may be JSON
    sys.path[:], sys.argv[:] = pickle.loads(connection.recv_bytes())
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive_calls, args=(connection, calls), daemon=True).start()
    while True:
        _send(connection, _answer(calls.get(), connection))


def _receive_calls(connection: Connection, calls: queue.SimpleQueue[bytes]) -> NoReturn:
    """Queue each call; end the process when the other end is closed, also in the middle of a call."""
    while True:
        try:
            calls.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)


def _answer(call: bytes, connection: Connection) -> bytes:
    def send_note(content: object) -> None:
        _send(connection, pickle.dumps((None, content)))

    try:
        function, arguments, with_notes = pickle.loads(call)
        return pickle.dumps((False, function(*arguments, *([send_note] if with_notes else ()))))
    except BaseException as error:  # the function may be the user's, and may exit
        message = "".join(traceback.format_exception_only(error)).strip()
        return pickle.dumps((True, message, traceback.format_exc()))


def _send(connection: Connection, message: bytes) -> None:
    try:
        connection.send_bytes(message)
    except OSError:
        os._exit(1)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
