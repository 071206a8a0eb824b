"""What a purge leaves unchanged in a file that it rewrites, so that an attestation can state it beforehand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ungan_dist import store
from ungan_dist.files import hash_bytes, hash_json
from ungan_dist.report.redact import NOTICE, keep_unpurged, redact_page
from ungan_dist.runs.upkeep.purge import FACTS_OF_FEW, REWRITTEN, may_remove
from ungan_dist.runs.views import REPORT_FILE

_ANY_DATE = "2000-01-01T00:00:00+00:00"


def predict_rest(folder: Path, name: str, *, few: bool) -> str | None:
    """Hash what a purge will leave unchanged in a file.

    Args:
        folder: The run folder.
        name: The file, relative to the run folder.
        few: Whether the forget examples are so few that a purge removes aggregates.

    Returns:
        The hash; none if a purge removes the file, or does not change it.
    """
    if not REWRITTEN.fullmatch(name) or may_remove(name, few=few):
        return None
    if name.endswith(".json"):
        content = store.read_marker(folder / name)
        is_reduced = few and Path(name).name != REPORT_FILE
        facts = {key: fact for key, fact in content["facts"].items() if not is_reduced or key in FACTS_OF_FEW}
        return hash_json([content["id"], facts])
    try:
        page = redact_page((folder / name).read_text(), notice=NOTICE.format(date=_ANY_DATE), remaining=())
        return hash_bytes(keep_unpurged(page).encode())
    except ValueError:  # a purge removes such a page
        return None


def hash_rest(folder: Path, name: str, attested: Mapping[str, str]) -> str | None:
    """Hash what ``predict_rest`` hashed, in a file that a purge rewrote.

    Args:
        folder: The run folder.
        name: The file, relative to the run folder.
        attested: The attested files; a marker may list no other hash than theirs.

    Returns:
        The hash; none if no purge writes such a file.
    """
    path = folder / name
    try:
        if name.endswith(".html"):
            return hash_bytes(keep_unpurged(path.read_text()).encode())
        content = store.read_marker(path)
    except (ValueError, store.CorruptResult):
        return None
    root = path.parent if path.name == REPORT_FILE else folder
    for file, found in content["files"].items():
        listed = os.path.relpath(root / file, folder)
        if attested.get(listed) != found and not listed.endswith("report.html"):
            return None
    return hash_json([content["id"], content["facts"]])
