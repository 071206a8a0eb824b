"""Record what crosses the switch between hosts, and read it as streams of TCP."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hosts import Network

WORDS = ("ShadowUnit", "TargetUnit", "/mnt/shared", "ungan_dist")
"""Texts within the units of an audit on hosts."""
_RECORD = """
import socket, struct, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # a receive buffer beyond the limit of users
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        frame, (_, _, kind, *_) = wire.recvfrom(1 << 17)
        if kind == socket.PACKET_OUTGOING:  # each frame leaves the switch once
            file.write(struct.pack("<I", len(frame)) + frame)
"""
_CLIENT_HELLO, _SERVER_HELLO = 1, 2


class End(NamedTuple):
    """One end of a connection."""

    address: str
    port: int


class Direction(NamedTuple):
    """One direction of a connection."""

    sender: End
    receiver: End


@contextmanager
def recording(network: Network, path: Path) -> Iterator[None]:
    """Write every frame that leaves the switch into a file, within the context."""
    enter = ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(network.switch_pid), "--net"]
    recorder = subprocess.Popen([*enter, sys.executable, "-c", _RECORD, str(path)])
    deadline = time.monotonic() + 30
    while not path.exists():
        assert recorder.poll() is None, "nothing records"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    try:
        yield
        time.sleep(0.5)  # what is still in its buffer
    finally:
        recorder.kill()
        recorder.wait()


def read_streams(path: Path) -> dict[Direction, bytes]:
    """Join the payloads of each direction of each connection, repeated segments dropped."""
    found: dict[Direction, dict[int, bytes]] = {}
    content = path.read_bytes()
    place = 0
    while place + 4 <= len(content):
        (length,) = struct.unpack_from("<I", content, place)
        frame = content[place + 4 : place + 4 + length]
        place += 4 + length
        if frame[12:14] != b"\x08\x00" or frame[23] != 6:  # IPv4 and TCP
            continue
        packet = frame[14 : 14 + int.from_bytes(frame[16:18], "big")]
        header = (packet[0] & 15) * 4
        segment = packet[header:]
        ports = struct.unpack_from(">HHI", segment)
        payload = segment[(segment[12] >> 4) * 4 :]
        sender, receiver = (".".join(map(str, packet[start : start + 4])) for start in (12, 16))
        direction = Direction(End(sender, ports[0]), End(receiver, ports[1]))
        if payload:
            segments = found.setdefault(direction, {})
            segments[ports[2]] = max(segments.get(ports[2], b""), payload, key=len)
    return {direction: b"".join(segments.values()) for direction, segments in found.items()}


def list_plain(streams: dict[Direction, bytes]) -> list[Direction]:
    """List the directions that begin without the greeting of a handshake of TLS."""
    return [direction for direction, content in streams.items() if not _is_greeting(content)]


def _is_greeting(content: bytes) -> bool:
    # a record of the kind handshake, version 3.x, and in it the greeting of a client or a server
    return content[:2] == b"\x16\x03" and content[5:6] in (bytes([_CLIENT_HELLO]), bytes([_SERVER_HELLO]))
