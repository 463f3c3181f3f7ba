"""The playground: one page, assembled from this folder's files, that sends requests to the service it comes from.

Everything is inline, so the content security policy names the style and the script by their hashes and allows nothing
else: no other origin, no framing, and no text from the server that could become markup.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent
# In order: each may use those before it.
_SCRIPTS = (
    "server.js",
    "page.js",
    "picture.js",
    "examples.js",
    "models.js",
    "subspace.js",
    "mixture.js",
    "chart.js",
    "answer.js",
    "drift.js",
    "statistics.js",
    "playground.js",
)
_STYLE_PLACE = "/* playground.css */"
_SCRIPT_PLACE = "/* scripts */"


@functools.cache
def page() -> tuple[bytes, dict[str, str]]:
    """Return the page and the headers to send with it. Raises `OSError` when the installation lacks a file."""
    style = _read("playground.css")
    script = "\n".join(_read(name) for name in _SCRIPTS)
    body = _read("index.html").replace(_STYLE_PLACE, style).replace(_SCRIPT_PLACE, script)
    policy = [
        "default-src 'none'",
        f"script-src {_source(script)}",
        f"style-src {_source(style)}",
        "connect-src 'self'",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Makes the browser refuse innerHTML and the like.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
    headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "; ".join(policy),
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
    }
    return body.encode(), headers


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """Return the policy's source expression for an inline element with exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
