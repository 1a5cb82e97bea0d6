"""Compressed answers that nobody asked for, unpacked as they arrive and never beyond a bound.

The relay asks backends for identity, because what is compressed cannot be read or spliced. Some compress all
the same. A client that never offered to take it gets what it can read.
"""

from __future__ import annotations

import zlib

from proxy.wire.errors import WireError

INFLATABLE = frozenset({b"gzip", b"x-gzip", b"deflate"})
_GZIP_OR_ZLIB, _GZIP = 47, 31  # zlib's ways to say: look at the header; and: gzip
_GZIP_BEGINS = b"\x1f"  # and no zlib header does


class Inflater:
    """gzip or zlib bytes in any pieces -> plain bytes. `bytes_max` bounds all of them: a bomb is an error.

    gzip may come in several members, one behind the other: all of them are the answer (RFC 1952, 2.2).
    """

    def __init__(self, bytes_max: int) -> None:
        self._inflate = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
        self._room = bytes_max
        self._has_begun = False
        self._is_gzip = False

    def feed(self, piece: bytes) -> bytes:
        """Return what this piece unpacks to. Raises WireError for what is not compressed, or too much."""
        if piece and not self._has_begun:
            self._has_begun, self._is_gzip = True, piece[:1] == _GZIP_BEGINS
        plain: list[bytes] = []
        while piece:
            if self._inflate.eof:
                if not self._is_gzip:
                    raise WireError("the backend's compressed answer goes on", code="backend_protocol")
                self._inflate = zlib.decompressobj(wbits=_GZIP)
            plain.append(self._inflated(piece))
            piece = self._inflate.unused_data
        return b"".join(plain)

    def _inflated(self, piece: bytes) -> bytes:
        try:
            plain = self._inflate.decompress(piece, self._room + 1)
        except zlib.error as error:
            raise WireError(
                "the backend's compressed answer cannot be read", code="backend_protocol"
            ) from error
        self._room -= len(plain)
        if self._room < 0:
            raise WireError("the backend's compressed answer is too long", code="backend_protocol")
        return plain

    @property
    def is_cut(self) -> bool:
        """Whether what was fed is only the beginning of a compressed answer; nothing at all is none."""
        return not self._inflate.eof and self._has_begun
