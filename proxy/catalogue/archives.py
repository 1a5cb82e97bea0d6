"""What is taken out of archives and XML that strangers send: counted, bounded, never written to disk.

The sizes an archive states may be lies, and an entity of a few bytes can unfold to any size, so what comes
out is counted and entities are refused.
"""

from __future__ import annotations

import lzma
import struct
import xml.parsers.expat
import zipfile
import zlib
from typing import Final

from proxy.catalogue.works import printable
from proxy.errors import BadRequest, TooLarge

ENTRIES_MAX: Final = 10_000  # a long book has some hundred chapters and pictures
RATIO_MAX: Final = 200  # deflate packs prose 3:1 and mark-up 20:1; a bomb 1000:1
# All that zipfile lets out over bytes it did not expect, and over a password it was not given.
DAMAGED: Final = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, NotImplementedError, OSError, RuntimeError, ValueError,
)  # fmt: skip


def too_large(bytes_max: int) -> TooLarge:
    """Return the error of what unpacks to, or is, more than a work may be."""
    return TooLarge(
        f"it is larger than {bytes_max} bytes", remedy="raise [catalogue] file_bytes_max, or give it in parts"
    )


class Unpacking:
    """An archive's entries, as long as all of them together stay within the bound."""

    def __init__(self, archive: zipfile.ZipFile, bytes_max: int) -> None:
        """Take an open archive. Raises BadRequest where it has over ENTRIES_MAX entries."""
        if len(archive.infolist()) > ENTRIES_MAX:
            raise BadRequest(f"the archive has over {ENTRIES_MAX} entries", remedy="give a plain book")
        self._archive = archive
        self._bytes_max = bytes_max
        self._left = bytes_max

    def entry(self, name: str) -> bytes:
        """Return one entry's bytes.

        Raises BadRequest where it is missing or unpacks to far more than text does, TooLarge over the bound.
        """
        try:
            info = self._archive.getinfo(name)
        except KeyError as error:
            raise BadRequest(
                f"the archive has no '{printable(name, 80)}', which it names", remedy="save it anew"
            ) from error
        bound = min(self._left, max(info.compress_size, 1) * RATIO_MAX)
        with self._archive.open(info) as file:
            raw = file.read(bound + 1)
        if len(raw) > self._left:
            raise too_large(self._bytes_max)
        if len(raw) > bound:
            raise BadRequest(
                f"'{printable(name, 80)}' unpacks to far more than text does", remedy="save it anew"
            )
        self._left -= len(raw)
        return raw

    def holds(self, name: str) -> bool:
        """Say whether there is an entry of this name."""
        return name in self._archive.NameToInfo


def xml_parser(what: str) -> xml.parsers.expat.XMLParserType:
    """Return a parser whose names are "namespace local", which refuses entities. what: for its errors."""

    def refuse(*_: object) -> None:
        raise BadRequest(f"the {what} declares entities", remedy="save it anew without a DTD")

    parser = xml.parsers.expat.ParserCreate(namespace_separator=" ")
    parser.EntityDeclHandler = refuse
    return parser


def parsed(parser: xml.parsers.expat.XMLParserType, raw: bytes, what: str) -> None:
    """Let `parser` read `raw`. Raises BadRequest where it is no XML."""
    try:
        parser.Parse(raw, True)
    except xml.parsers.expat.ExpatError as error:
        raise BadRequest(f"the {what} is no XML ({error})", remedy="save it anew") from error
