"""Remove forget examples from a report page that was written before a purge."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_SECTION = r"<section><h2>{}</h2>.*?</section>\n"
_NOTICE = '<div class="notice" role="alert"><p><strong>PURGED.</strong>'
_IMAGE = "data:image/"


def redact_page(page: str, *, notice: str, remaining: Iterable[str]) -> str:
    """Remove the images of forget examples from a page and add a notice at the top.

    Args:
        page: content of report.html.
        notice: one sentence with the removed data and the date.
        remaining: files that still hold forget data.

    Raises:
        ValueError: the page has an unknown structure, so it may still hold images.
    """
    page = _without_examples(page)
    items = "".join(f"<li><code>{escape(name)}</code></li>" for name in remaining)
    content = f"<ul>{items}</ul>" if items else "<p>None that this run has written.</p>"
    title = "Files that still hold forget data"
    section = f"<section><h2>{title}</h2>{content}</section>\n"
    page, found = re.subn(_SECTION.format(title), lambda _: section, page, flags=re.DOTALL)
    if _NOTICE not in page:
        page = page.replace("</header>", f"{_NOTICE} {escape(notice)}</p></div></header>", 1)
    if not found or _NOTICE not in page or _IMAGE in page:
        raise ValueError("the page has an unknown structure: it may still hold images")
    return page


def remove_examples(page: str) -> str:
    """Remove the images of forget examples from a page.

    Raises:
        ValueError: the page has an unknown structure, so it may still hold images.
    """
    page = _without_examples(page)
    if _IMAGE in page:
        raise ValueError("the page has an unknown structure: it may still hold images")
    return page


def _without_examples(page: str) -> str:
    return re.sub(_SECTION.format("Forget examples"), "", page, flags=re.DOTALL)
