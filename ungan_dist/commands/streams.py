"""Standard output and error for a terminal or file that cannot show every character."""

from __future__ import annotations

import codecs
import sys
import warnings

_HANDLER = "ungan_dist.ascii"
_ASCII = {
    **dict.fromkeys("–—−", "-"),
    **dict.fromkeys("“”", '"'),
    **dict(zip("’…≥≤±×√→∪", ("'", "...", ">=", "<=", "+/-", "x", "sqrt", "->", "|"), strict=True)),
    **dict(zip("δΔμσφΦ", ("delta", "Delta", "mu", "sigma", "phi", "Phi"), strict=True)),
}


def prepare_streams() -> None:
    """Write ASCII in place of characters that a stream's encoding lacks, and warnings in one line."""
    codecs.register_error(_HANDLER, _spell)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors=_HANDLER)  # pyright: ignore[reportAttributeAccessIssue]
    warnings.formatwarning = _format_warning


def _spell(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    return "".join(_ASCII.get(character, "?") for character in characters), error.end


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"ungan-dist: warning: {message}\n"
