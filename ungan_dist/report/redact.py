"""A page that was written before a purge, without what the purge removes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_SECTION = r"<section><h2>{}</h2>.*?</section>\n"
_NOTICE = '<div class="notice" role="alert"><p><strong>PURGED.</strong>'
_PICTURE = "data:image/"


def redact_page(page: str, *, notice: str, remaining: Iterable[str]) -> str:
    """The page without pictures of forget examples, headed by a notice.

    Args:
        page: report.html, as it was written.
        notice: what was removed and when, in one sentence.
        remaining: files that still hold forget data.

    Raises:
        ValueError: the page is not of the known shape, so that something may be left in it.
    """
    page = re.sub(_SECTION.format("Forget examples"), "", page, flags=re.DOTALL)
    items = "".join(f"<li><code>{escape(name)}</code></li>" for name in remaining)
    content = f"<ul>{items}</ul>" if items else "<p>None that this run has written.</p>"
    title = "Files that still hold forget data"
    section = f"<section><h2>{title}</h2>{content}</section>\n"
    page, found = re.subn(_SECTION.format(title), lambda _: section, page, flags=re.DOTALL)
    if _NOTICE not in page:
        page = page.replace("</header>", f"{_NOTICE} {escape(notice)}</p></div></header>", 1)
    if not found or _NOTICE not in page or _PICTURE in page:
        raise ValueError("the page is not one of ours: it may hold pictures")
    return page
