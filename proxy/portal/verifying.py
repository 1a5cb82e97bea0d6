"""The page that checks receipts: one file, put together once, which whoever saves it can use for ever.

It is the only page with a script inside it, because it must work alone, from a disk, without a network. Its
own policy, in the file and in the reply's head, lets exactly that script and that style run, by their
SHA-256, and lets it load nothing but this server's public keys.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Final

from litestar import Response, get
from litestar.handlers import BaseRouteHandler

FOLDER: Final = Path(__file__).with_name("verifier")
_HEAD_ONLY: Final = "; frame-ancestors 'none'"  # a policy inside a page may not say this


def verifier_page() -> BaseRouteHandler:
    """Return the handler of the page, relative to /portal."""
    page, policy = assembled()
    headers = {
        "content-security-policy": policy + _HEAD_ONLY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
        "etag": f'"{hashlib.sha256(page).hexdigest()[:32]}"',
    }

    @get("/verify", sync_to_thread=False)
    def verify() -> Response[bytes]:
        """The verifier, as it is saved."""
        return Response(page, media_type="text/html", headers=headers)

    return verify


def assembled(folder: Path = FOLDER) -> tuple[bytes, str]:
    """Return the page, whole, and the policy that lets it run."""
    style = _read(folder, "page.css")
    script = f"{_read(folder, 'check.js')}\n{_read(folder, 'page.js')}"
    assert "</script" not in script  # it would end there
    allowed = f"script-src '{_named(script)}'; style-src '{_named(style)}'; connect-src 'self'"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    page = _read(folder, "page.html")
    for name, content in (("policy", policy), ("style", style), ("script", script)):
        page = page.replace(f"{{{name}}}", content)
    return page.encode(), policy


def _read(folder: Path, name: str) -> str:
    return (folder / name).read_text(encoding="utf-8")


def _named(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
