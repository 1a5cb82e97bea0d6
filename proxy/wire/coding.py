"""Compressed answers that nobody asked for, unpacked as they arrive and never beyond a bound.

The relay asks backends for identity, because what is compressed cannot be read or spliced. Some compress all
the same. A client that never offered to take it gets what it can read.
"""

from __future__ import annotations

import zlib

from proxy.wire.errors import WireError

INFLATABLE = frozenset({b"gzip", b"x-gzip", b"deflate"})
_GZIP_OR_ZLIB = 47  # zlib's way to say: look at the header


class Inflater:
    """gzip or zlib bytes in any pieces -> plain bytes. `bytes_max` bounds all of them: a bomb is an error."""

    def __init__(self, bytes_max: int) -> None:
        self._inflate = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
        self._room = bytes_max
        self._has_begun = False

    def feed(self, piece: bytes) -> bytes:
        """Return what this piece unpacks to. Raises WireError for what is not compressed, or too much."""
        self._has_begun = self._has_begun or bool(piece)
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
