"""Check whether the traffic between a cluster's nodes is encrypted, and how long this host's certificate lasts."""

from __future__ import annotations

import datetime
from collections.abc import Collection

from ungan_dist.cluster.tls import find_files, read_expiry
from ungan_dist.errors import ConfigError
from ungan_dist.runs.upkeep.doctor import Finding

NAME = "encryption"
WARNING_DAYS = 30
_RENEW = "renew it with ungan-dist tls FOLDER --host NAME, and copy it"


def check_encryption(nodes: Collection[str], *, now: datetime.datetime | None = None) -> Finding:
    """Check a cluster that this process has joined; all its nodes then use TLS as this process does.

    Args:
        nodes: Addresses of the nodes.
        now: The time; defaults to the clock's.
    """
    try:
        files = find_files()
        if files is None:
            if len(set(nodes)) < 2:
                return Finding(name=NAME, state="ok", detail="no TLS; all nodes are on this machine")
            detail = (
                f"no TLS between the {len(set(nodes))} addresses of nodes: whoever sees their network reads all data"
            )
            return Finding(
                name=NAME, state="warning", detail=detail, remedy="ungan-dist tls --help, or a private network"
            )
        end = read_expiry(files)
    except ConfigError as error:
        return Finding(name=NAME, state="failure", detail=str(error), remedy=_RENEW)
    days = (end - (now or datetime.datetime.now(datetime.UTC))).days
    detail = f"nodes use TLS; the certificate {files.certificate} expires in {days} days"
    if days < WARNING_DAYS:
        return Finding(name=NAME, state="warning", detail=detail, remedy=_RENEW)
    return Finding(name=NAME, state="ok", detail=detail)
