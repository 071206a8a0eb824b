"""Remove forget examples from a report page that was written before a purge."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

_SECTION = r"<section><h2>{}</h2>.*?</section>\n"
_REMAINING = "Files that still hold forget data"
_NONE = "<p>None that this run has written.</p>"
_NOTICE = '<div class="notice" role="alert"><p><strong>PURGED.</strong>'
NOTICE = (
    "On {date} the forget data, the pictures, the scores and log-odds of single examples and the original models "
    "of this run were removed; the aggregates below are those of before."
)
"""Sentence of a purge, for ``redact_page``."""
_DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
_PURGED_PARTS = (
    (f"{re.escape(_NOTICE)} {re.escape(NOTICE).replace(re.escape('{date}'), _DATE)}</p></div></header>", "</header>"),
    (
        rf"<section><h2>{_REMAINING}</h2>(?:{re.escape(_NONE)}|<ul>(?:<li><code>[^<>]*</code></li>)+</ul>)</section>\n",
        f"<!-- {_REMAINING} -->\n",
    ),
)
"""Patterns of what a purge writes into a page → what ``keep_unpurged`` puts there."""
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
    content = f"<ul>{items}</ul>" if items else _NONE
    section = f"<section><h2>{_REMAINING}</h2>{content}</section>\n"
    page, found = re.subn(_SECTION.format(_REMAINING), lambda _: section, page, flags=re.DOTALL)
    if _NOTICE not in page:
        page = page.replace("</header>", f"{_NOTICE} {escape(notice)}</p></div></header>", 1)
    if not found or _NOTICE not in page or _IMAGE in page:
        raise ValueError("the page has an unknown structure: it may still hold images")
    return page


def keep_unpurged(page: str) -> str:
    """Return a redacted page without what the purge wrote into it, to compare two of them.

    Left out are the notice, which may differ in its date, and the list of files that still hold forget data.

    Raises:
        ValueError: the page is not what ``redact_page`` makes with ``NOTICE``.

    Examples:
        >>> page = "<header></header>\\n<section><h2>Files that still hold forget data</h2>…</section>\\n<p>.5</p>"
        >>> notice = NOTICE.format(date="2026-01-02T03:04:05+00:00")
        >>> one, other = (redact_page(page, notice=notice, remaining=names) for names in ([], ["a", "b"]))
        >>> keep_unpurged(one) == keep_unpurged(other)
        True
        >>> keep_unpurged(one) == keep_unpurged(one.replace(".5", ".6"))
        False
    """
    for pattern, content in _PURGED_PARTS:
        page, found = re.subn(pattern, lambda _, content=content: content, page)
        if found != 1:
            raise ValueError("the page is not what a purge writes")
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
