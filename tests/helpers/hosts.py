"""Hosts on one machine: each has its own address, name, processes, home and temporary folders, and a cable.

    with Network(tmp_path, ["head", "left"]) as network:
        network["head"].run("hostname -i")
        network.unplug("left")

Everything runs in namespaces, so that nothing of the machine changes, and the kernel ends all of it with the test.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest
from own_machine import make_environment

SUBNET = "10.77.0."
HOME, TEMPORARY, SHARED = Path("/mnt/home"), Path("/mnt/tmp"), Path("/mnt/shared")
"""Folders of every host; only the last one is the same on all of them."""
_WITH_THE_TEST = ["setpriv", "--pdeathsig", "KILL"]
_SWITCH = "ip link add name switch type bridge && ip link set switch up && touch {ready}; exec sleep infinity"
_HOST = """
set -e
hostname {name}
ip link set lo up
mount -t tmpfs tmpfs /mnt
mkdir /mnt/home /mnt/tmp /mnt/shared
mount --bind {home} /mnt/home
mount --bind {shared} /mnt/shared
mount -t tmpfs -o size={disk} tmpfs /mnt/tmp
mount -t tmpfs -o size=512m tmpfs /dev/shm
mount --bind {names} /etc/hosts
touch {ready}
# process 1 adopts and reaps orphans
while :; do sleep 3600 & wait; done
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host; its commands run as root of its own namespaces."""

    name: str
    address: str
    init: subprocess.Popen[bytes]
    home: Path
    """Its home folder, as the test sees it."""

    @property
    def is_on(self) -> bool:
        """Whether its process 1 runs."""
        return self.init.poll() is None

    @property
    def pid(self) -> int:
        """The host's process 1, as the machine numbers it."""
        return int(Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()[0])

    def start(self, script: str, log: Path, **variables: str) -> subprocess.Popen[bytes]:
        """Start a bash script in the home folder, in a session of its own."""
        with log.open("ab") as written:
            return subprocess.Popen(
                self._command(script),
                env=_environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=written,
                start_new_session=True,
            )

    def run(
        self, script: str, *, timeout: float = 120, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a bash script in the home folder to its end.

        Raises:
            AssertionError: It failed, with its output, unless ``check`` is false.
        """
        done = subprocess.run(
            self._command(script),
            env=_environment(variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not (check and done.returncode), f"{self.name}: {script}\n{done.stdout}\n{done.stderr}"
        return done

    def cut_power(self) -> None:
        """Kill every process of the host at once."""
        self.init.kill()
        self.init.wait()

    def _command(self, script: str) -> list[str]:
        enter = ["nsenter", "-t", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid", f"--wdns={HOME}"]
        return [*_WITH_THE_TEST, *enter, "bash", "-c", script]


class Network:
    """A switch and the hosts on it."""

    def __init__(self, folder: Path, names: Sequence[str], *, disk: str = "2g", shared: str = "") -> None:
        """Describe a network.

        Args:
            folder: Home folders and the shared disk.
            names: Names of the hosts; the first one has the address 10.77.0.1.
            disk: Size of each host's temporary folder.
            shared: Size of the shared disk; empty for a folder on this machine's own.
        """
        self._folder, self._disk, self._shared_size = folder, disk, shared
        self._addresses = {name: f"{SUBNET}{number}" for number, name in enumerate(names, start=1)}
        self._cards = {name: f"02:00:00:00:00:{number:02x}" for number, name in enumerate(names, start=1)}
        self._hosts: dict[str, Host] = {}
        self.shared = folder / "shared"

    def __getitem__(self, name: str) -> Host:
        return self._hosts[name]

    def __enter__(self) -> Network:
        require_hosts()
        self.shared.mkdir(parents=True)
        if self._shared_size:
            mount = ["mount", "-t", "tmpfs", "-o", f"size={self._shared_size}", "tmpfs", str(self.shared)]
            subprocess.run(mount, check=True)
        lines = [f"127.0.0.1 localhost\n{address} {name}" for name, address in self._addresses.items()]
        (self._folder / "names").write_text("\n".join([*lines, ""]))
        ready = self._folder / "switch.ready"
        command = [*_WITH_THE_TEST, "unshare", "--net", "sh", "-c", _SWITCH.format(ready=shlex.quote(str(ready)))]
        self._switch = subprocess.Popen(command)
        _wait_for(ready, self._switch)
        for name in self._addresses:
            self.boot(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for host in self._hosts.values():
            host.cut_power()
        self._switch.kill()
        self._switch.wait()
        if self._shared_size:
            subprocess.run(["umount", "--lazy", str(self.shared)], check=True)

    @property
    def switch_pid(self) -> int:
        """The process that keeps the switch's namespace."""
        return self._switch.pid

    def boot(self, name: str) -> Host:
        """Start a host, or start it again: with its address and home folder, without processes and temporary files."""
        home, ready = self._folder / name, self._folder / f"{name}.ready"
        home.mkdir(exist_ok=True)
        ready.unlink(missing_ok=True)
        script = _HOST.format(
            name=name,
            home=shlex.quote(str(home)),
            shared=shlex.quote(str(self.shared)),
            names=shlex.quote(str(self._folder / "names")),
            ready=shlex.quote(str(ready)),
            disk=self._disk,
        )
        spaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
        init = subprocess.Popen([*_WITH_THE_TEST, "unshare", *spaces, "bash", "-c", script])
        _wait_for(ready, init)
        host = self._hosts[name] = Host(name=name, address=self._addresses[name], init=init, home=home)
        self._on_switch(
            # the kernel removes the network of a host that lost its power later
            f"ip link delete {name} 2> /dev/null; "
            # it keeps its network card, so that the others still know where to send
            f"ip link add {name} type veth peer name eth0 address {self._cards[name]} netns {host.pid} && "
            f"ip link set {name} master switch up"
        )
        host.run(f"ip address add {host.address}/24 dev eth0 && ip link set eth0 up")
        return host

    def unplug(self, name: str) -> None:
        """Pull a host's cable: packets are lost in both directions, connections stay."""
        self._on_switch(f"ip link set {name} down")

    def plug_in(self, name: str) -> None:
        """Connect a host again."""
        self._on_switch(f"ip link set {name} up")

    def separate(self, one: str, other: str) -> None:
        """Lose every packet between two hosts, which both still reach all others."""
        for here, there in ((one, other), (other, one)):
            self[here].run(f"ip route add blackhole {self[there].address}/32")

    def join(self, one: str, other: str) -> None:
        """Connect two separated hosts again."""
        for here, there in ((one, other), (other, one)):
            self[here].run(f"ip route delete blackhole {self[there].address}/32")

    @contextlib.contextmanager
    def disturbing_cable(self, name: str, *, delay_ms: float = 0.0, loss: float = 0.0) -> Iterator[None]:
        """Delay every packet to and from a host, and lose a share of them in each direction, within the context."""
        near, far, ready = f"{name}-near", f"{name}-far", self._folder / f"{name}.cable"
        ready.unlink(missing_ok=True)
        pair = f"ip link add {near} type veth peer name {far} && ip link set {near} master switch up"
        self._on_switch(f"{pair} && ip link set {far} up && ip link set {name} nomaster")
        command = [sys.executable, Path(__file__).with_name("slow_cable.py"), name, far, delay_ms, loss, ready]
        carrier = subprocess.Popen([*_WITH_THE_TEST, *self._inside_switch(), *map(str, command)])
        try:
            _wait_for(ready, carrier)
            yield
        finally:
            carrier.kill()
            carrier.wait()
            self._on_switch(f"ip link delete {near}; ip link set {name} master switch")

    def _on_switch(self, script: str) -> None:
        subprocess.run([*self._inside_switch(), "sh", "-c", script], check=True)

    def _inside_switch(self) -> list[str]:
        return ["nsenter", "-t", str(self._switch.pid), "--net"]


def require_hosts() -> None:
    """Skip the test, with the reason, where namespaces or the programs for them are missing."""
    if missing := [name for name in ("ip", "nsenter", "setpriv", "unshare") if not shutil.which(name)]:
        pytest.skip(f"missing programs: {', '.join(missing)} (packages iproute2 and util-linux)")
    tried = subprocess.run(["unshare", "--net", "ip", "link", "add", "type", "veth"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"this user cannot create a network between namespaces: {tried.stderr.strip()}")


def _environment(variables: dict[str, str]) -> dict[str, str]:
    return make_environment(HOME, **{"TMPDIR": str(TEMPORARY), "RAY_TMPDIR": str(TEMPORARY), **variables})


def _wait_for(ready: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not ready.exists():
        assert process.poll() is None, f"ended with {process.returncode} before {ready}"
        assert time.monotonic() < deadline, f"not ready within 30 s: {ready}"
        time.sleep(0.02)
