"""``ungan-dist tls``: make the certificates for Ray's TLS between the nodes of a cluster."""

from __future__ import annotations

from pathlib import Path

from ungan_dist.commands.parser import Parser
from ungan_dist.errors import ConfigError
from ungan_dist.files import escape_controls

USAGE = """\
usage: ungan-dist tls FOLDER --host NAME[=ADDRESS,…] [--host …] [--days N]

Make a private authority, and a key and a certificate for each host of a Ray cluster. With them, Ray encrypts the
traffic between nodes and admits only hosts that have a certificate of this authority. FOLDER/NAME is for the host NAME:
copy it to ~/.ray/tls there. Copy FOLDER/authority.key to no host: whoever has it can admit hosts. New folders have mode
0700 and new files 0600.

  --host NAME            a host; NAME is also a name by which the other hosts reach it
  --host NAME=ADDRESS,…  its addresses and further names; Ray connects nodes by their addresses
  --days N               days until the certificates expire (default 365)

Again with the same FOLDER, it keeps the authority, adds hosts, and renews the certificates of hosts that are named
again. A token is needed as before: certificates protect the network, the token decides who runs code. The dashboard
with its Jobs API, metrics, and the gradients of --train.num-workers are not encrypted by Ray's TLS: see SECURITY.md.

The package cryptography is needed: pip install 'ungan-dist[tls]'.

exit codes: 0 written; 2 wrong options, or the folder cannot be used
"""


def main(arguments: list[str]) -> int:
    """Write the files, and print how to copy and use them."""
    parser = Parser("tls")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path)
    parser.add_argument("--host", action="append", default=[])
    parser.add_argument("--days", type=int, default=365)
    own = parser.parse(arguments)
    if own.folder is None or not own.host:
        raise ConfigError("tls needs a folder and a host: ungan-dist tls FOLDER --host NAME=ADDRESS")
    if not 1 <= own.days <= 3650:
        raise ConfigError(f"--days must be between 1 and 3650, got {own.days}")

    from ungan_dist.cluster.certificates import PLACE, describe_copying, environment, make_certificates, read_hosts

    made = make_certificates(own.folder, read_hosts(own.host), days=own.days)
    lines = [f"authority: {own.folder / 'authority.crt'}", "copy to each host:"]
    lines += [f"  {describe_copying(folder)}" for folder in made]
    lines += [
        "then on each host, before ray start and before ungan-dist:",
        f"  . {PLACE}/environment",
        "which is:",
        *(f"  {line}" for line in environment().splitlines()),
    ]
    print(escape_controls("\n".join(lines)))
    return 0
