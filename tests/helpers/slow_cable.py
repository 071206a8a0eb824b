"""Carry frames between two interfaces of this network namespace, with a delay and a loss in each direction.

    python slow_cable.py ONE OTHER DELAY_MS LOSS READY

The kernel's own way, ``tc qdisc add … netem``, is missing in many kernels of virtual machines.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path

# from linux/if_packet.h; Python's socket module has no names for them
SOL_PACKET, ADD_MEMBERSHIP, VNET_HEADER, IGNORE_OUTGOING, PROMISCUOUS = 263, 1, 15, 23, 1
ETH_P_ALL = 3
LARGEST = 1 << 17
"""Bytes of the largest frame: the kernel hands over segments before it cuts them."""


def open_port(name: str) -> socket.socket:
    """Open an interface for every frame that reaches it, with the header by which checksums and segments survive."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(SOL_PACKET, VNET_HEADER, 1)
    port.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    port.bind((name, ETH_P_ALL))
    membership = struct.pack("iHH8s", socket.if_nametoindex(name), PROMISCUOUS, 0, b"")
    port.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, membership)
    port.setblocking(False)
    return port


def carry(one: socket.socket, other: socket.socket, delay_s: float, loss: float) -> None:
    """Carry frames until the process ends."""
    draw = random.Random(0)
    partner = {one: other, other: one}
    waiting: deque[tuple[float, socket.socket, bytes]] = deque()
    while True:
        timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        for port in select.select([one, other], [], [], timeout)[0]:
            frame = port.recv(LARGEST)
            if draw.random() >= loss:
                waiting.append((time.monotonic() + delay_s, partner[port], frame))
        while waiting and waiting[0][0] <= time.monotonic():
            _, port, frame = waiting.popleft()
            # a full queue or an interface that is down loses frames, as a switch does
            with contextlib.suppress(OSError):
                port.send(frame)


if __name__ == "__main__":
    near, far, delay_ms, share, ready = sys.argv[1:]
    ports = open_port(near), open_port(far)
    Path(ready).touch()
    carry(*ports, float(delay_ms) / 1e3, float(share))
