"""A proxy of HTTP before a server of object storage that injects faults, as a process of its own.

    python storage_proxy.py HOST PORT SERVER_PORT FOLDER

``FOLDER/fault`` is what ``set_fault`` writes; a generator with a fixed seed chooses the requests that it hits. A line
of ``FOLDER/requests`` is the method, the path and the status of a request, or the fault that it met. ``FOLDER/port`` is
the port, which the system chooses for port 0.
"""

from __future__ import annotations

import http.client
import http.server
import json
import random
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

HANG_SECONDS = 60
ERRORS = {"500": "InternalError", "503": "SlowDown"}


def set_fault(folder: Path, kind: str = "", share: float = 1.0) -> None:
    """Set what the proxy does to a share of its requests from now on.

    Args:
        folder: The proxy's folder.
        kind: ``500`` or ``503``; ``reset``, which ends the connection before or after the request has its effect;
            ``hang``, which answers nothing; or nothing for no fault.
        share: Of the requests.
    """
    (folder / "fault.new").write_text(json.dumps({"kind": kind, "share": share}))
    (folder / "fault.new").rename(folder / "fault")


def list_requests(folder: Path) -> list[str]:
    """List what was requested and answered so far."""
    path = folder / "requests"
    return path.read_text().splitlines() if path.exists() else []


class _Proxy(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], server_port: int, folder: Path) -> None:
        super().__init__(address, _Handler)
        self.server_port_behind, self.folder = server_port, folder
        self._random, self._lock = random.Random(0), threading.Lock()
        self._log = (folder / "requests").open("a", buffering=1)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has gone."""

    def draw(self) -> tuple[str, float]:
        """Return the fault of the next request, if any, and a number between 0 and 1."""
        fault = json.loads((self.folder / "fault").read_text())
        with self._lock:
            return (fault["kind"] if self._random.random() < fault["share"] else ""), self._random.random()

    def note(self, text: str) -> None:
        with self._lock:
            self._log.write(text + "\n")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Proxy

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def _handle(self) -> None:
        kind, draw = self.server.draw()
        body = self._read_body()
        if kind == "hang":
            self.server.note(f"{self.command} {self.path} hang")
            time.sleep(HANG_SECONDS)
            self._reset()
        elif kind == "reset":
            if draw < 0.5:
                self._forward(body)
            self.server.note(f"{self.command} {self.path} reset")
            self._reset()
        elif kind:
            text = (
                f"<?xml version='1.0'?><Error><Code>{ERRORS[kind]}</Code><Message>injected</Message></Error>".encode()
            )
            self.server.note(f"{self.command} {self.path} {kind}")
            self._answer(int(kind), [("Content-Type", "application/xml")], text)
        else:
            status, headers, content = self._forward(body)
            self.server.note(f"{self.command} {self.path} {status}")
            self._answer(status, headers, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle

    def _read_body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port_behind, timeout=60)
        dropped = {"connection", "transfer-encoding", "content-length", "expect"}
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        connection.request(self.command, self.path, body or None, headers | {"Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = answer.read()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped]
        if self.command == "HEAD":
            kept.append(("Content-Length", answer.getheader("Content-Length") or "0"))
        connection.close()
        return answer.status, kept, content

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        elif not any(name == "Content-Length" for name, _ in headers):
            self.send_header("Content-Length", "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def main(host: str, port: str, server_port: str, folder: str) -> None:
    """Serve until the process is killed."""
    set_fault(Path(folder))
    proxy = _Proxy((host, int(port)), int(server_port), Path(folder))
    (Path(folder) / "port").write_text(str(proxy.server_address[1]))
    proxy.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
