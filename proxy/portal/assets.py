"""Styles and scripts: known by what they hold, so that a browser keeps them for ever and never has old ones.

A file's address carries the beginning of its SHA-256; a changed file has another address, so every one may be
cached for a year. All of them are read and compressed once, when the process starts: they are some hundred
kilobytes of ours, and a request costs a dictionary look-up. Other people's files lie under `vendor`, where
VENDOR.toml names version, licence and digest of each.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, get
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from proxy.errors import NotFound

STATIC: Final = Path(__file__).with_name("static")
PLACE: Final = "/portal/static"
SERVED: Final = frozenset({".css", ".js", ".svg"})  # manifests and licences stay at home
HASH_CHARACTERS: Final = 12  # 48 bits: enough to tell versions of one file apart
FOR_EVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    media_type: str
    content: bytes
    zipped: bytes
    etag: str

    def reply(self, *, accepts: str, knows: str) -> Response[bytes]:
        """Answer a browser that `accepts` these encodings and `knows` these entity tags."""
        headers = {"etag": self.etag, "cache-control": FOR_EVER, "vary": "accept-encoding"}
        if self.etag in {tag.strip().removeprefix("W/") for tag in knows.split(",")}:
            return Response(b"", status_code=304, headers=headers, media_type=self.media_type)
        if "gzip" in accepts:
            headers["content-encoding"] = "gzip"
            return Response(self.zipped, headers=headers, media_type=self.media_type)
        return Response(self.content, headers=headers, media_type=self.media_type)


class Assets:
    """Every file under a folder that pages may name."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._addresses: dict[str, str] = {}
        self._assets: dict[str, Asset] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix in SERVED:
                self._take(path.relative_to(folder).as_posix(), path.read_bytes())

    def _take(self, name: str, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        stem, _, suffix = name.rpartition(".")
        told = f"{stem}.{digest[:HASH_CHARACTERS]}.{suffix}"
        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        zipped = gzip.compress(content, 9, mtime=0)
        self._assets[told] = Asset(media_type, content, zipped, f'"{digest[:32]}"')
        self._addresses[name] = f"{PLACE}/{told}"

    def address(self, name: str) -> str:
        """Return where a page finds `name` ("app.css"). Raises KeyError for a file that is not there."""
        return self._addresses[name]

    def find(self, told: str) -> Asset:
        """Return what is at an address. Raises NotFound, also for a version that is gone."""
        found = self._assets.get(told.lstrip("/"))
        if found is None:
            raise NotFound("there is no such file", remedy="load the page again")
        return found

    def handler(self) -> BaseRouteHandler:
        """Return the handler for `PLACE`, relative to /portal."""

        @get("/static/{told:path}", include_in_schema=False, sync_to_thread=False)
        def static(request: Request[Any, Any, Any], told: FromPath[str]) -> Response[bytes]:
            """One file, whole or unchanged."""
            return self.find(told).reply(
                accepts=request.headers.get("accept-encoding", ""),
                knows=request.headers.get("if-none-match", ""),
            )

        return static
